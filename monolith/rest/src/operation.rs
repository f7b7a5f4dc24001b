//! One operation of the API: its route and its description, from the same place.
//!
//! Invariant: whatever is served was described, and whatever is described is served: [`serve`] and
//! [`Document`](crate::document::Document) are fed from the same list.

use std::borrow::Cow;
use std::collections::BTreeSet;

use actix_web::http::Method;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{FromRequest, Handler, Responder, Route};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::answer;
use crate::query::{LIMIT_DEFAULT, LIMIT_MAX, Listing};

/// A type as a schema of the document.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Its name among the document's components.
    pub(crate) name: fn() -> Cow<'static, str>,
    /// Its schema.
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Shape {
    fn of<T: JsonSchema>() -> Self {
        Self { name: T::schema_name, schema: T::json_schema }
    }
}

/// What an operation answers when all goes well.
#[derive(Clone, Copy)]
pub(crate) struct Success {
    pub(crate) status: u16,
    pub(crate) shape: Option<Shape>,
}

/// What the document says of an operation.
pub(crate) struct Description {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Unique among all operations, in snake case: what generated clients call it.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) parameters: Vec<Value>,
    pub(crate) body: Option<Shape>,
    pub(crate) success: Success,
    /// Statuses of problem documents.
    pub(crate) problems: BTreeSet<u16>,
    /// Whether what is answered has an `ETag`.
    pub(crate) tagged: bool,
}

/// An operation: how it is described, and what handles it.
pub(crate) struct Operation {
    pub(crate) description: Description,
    handle: Box<dyn Fn(Method) -> Route>,
}

/// An operation that has no handler yet.
pub(crate) struct Draft(Description);

/// Reads something.
pub(crate) fn get(path: impl Into<String>, id: &'static str, summary: &'static str) -> Draft {
    Draft::new(Method::GET, path.into(), id, summary)
}

/// Carries out a command, once for each `Idempotency-Key`.
pub(crate) fn post(path: impl Into<String>, id: &'static str, summary: &'static str) -> Draft {
    let key = json!({
        "name": "Idempotency-Key", "in": "header", "required": false,
        "description": "Makes a repeat of this request answer like the first time instead of doing it again.",
        "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" },
    });
    Draft::new(Method::POST, path.into(), id, summary).parameter(key).refuses([422])
}

/// Replaces something whole.
pub(crate) fn put(path: impl Into<String>, id: &'static str, summary: &'static str) -> Draft {
    Draft::new(Method::PUT, path.into(), id, summary)
}

/// Removes something.
pub(crate) fn delete(path: impl Into<String>, id: &'static str, summary: &'static str) -> Draft {
    let draft = Draft::new(Method::DELETE, path.into(), id, summary);
    Draft(Description { success: Success { status: 204, shape: None }, ..draft.0 })
}

impl Draft {
    fn new(method: Method, path: String, id: &'static str, summary: &'static str) -> Self {
        let success = Success { status: 200, shape: None };
        // 400: a parameter that nobody knows. 503: a context could not be asked.
        let problems = BTreeSet::from([400, 503]);
        let (parameters, body) = (Vec::new(), None);
        Self(Description { method, path, id, summary, parameters, body, success, problems, tagged: false })
    }

    /// A part of the path, `{name}`, of this type. What it names may not be there: 404.
    pub(crate) fn part<T: JsonSchema>(self, name: &str, description: &str) -> Self {
        let schema = T::json_schema(&mut SchemaGenerator::default());
        self.parameter(json!({
            "name": name, "in": "path", "required": true, "description": description, "schema": schema,
        }))
        .refuses([404])
    }

    /// A parameter of the query string, of this type.
    pub(crate) fn query<T: JsonSchema>(self, name: &str, description: &str) -> Self {
        let schema = T::json_schema(&mut SchemaGenerator::default());
        self.parameter(json!({ "name": name, "in": "query", "description": description, "schema": schema }))
    }

    /// A parameter of the query string that must be there.
    pub(crate) fn required_query<T: JsonSchema>(self, name: &str, description: &str) -> Self {
        let schema = T::json_schema(&mut SchemaGenerator::default());
        self.parameter(json!({
            "name": name, "in": "query", "required": true, "description": description, "schema": schema,
        }))
    }

    /// A body of this type.
    pub(crate) fn body<T: JsonSchema>(mut self) -> Self {
        self.0.body = Some(Shape::of::<T>());
        self.refuses([413, 415, 422])
    }

    /// 200 with a document of this type.
    pub(crate) fn returns<T: JsonSchema>(mut self) -> Self {
        self.0.success = Success { status: 200, shape: Some(Shape::of::<T>()) };
        self
    }

    /// 200 with one page of a listing, steered by `limit` and `cursor`.
    pub(crate) fn pages<T: JsonSchema>(self) -> Self {
        let limit = json!({
            "name": "limit", "in": "query", "description": "Most items of a page.",
            "schema": { "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT },
        });
        let cursor = json!({
            "name": "cursor", "in": "query", "description": "`next` of the page before; none for the first page.",
            "schema": { "type": "string" },
        });
        self.parameter(limit).parameter(cursor).returns::<Listing<T>>()
    }

    /// 201 with the document of what was made, and its address.
    pub(crate) fn creates<T: JsonSchema>(mut self) -> Self {
        self.0.success = Success { status: 201, shape: Some(Shape::of::<T>()) };
        self
    }

    /// What is answered has an `ETag`; a read with `If-None-Match` may be answered with 304.
    pub(crate) fn tagged(mut self) -> Self {
        self.0.tagged = true;
        if self.0.method != Method::GET {
            return self;
        }
        self.parameter(json!({
            "name": "If-None-Match", "in": "header", "description": "Answer 304 if the ETag is still this one.",
            "schema": { "type": "string" },
        }))
    }

    /// Done only if the `ETag` is still the one of `If-Match`, where that is sent; else 412.
    pub(crate) fn guarded(self) -> Self {
        let tag = json!({
            "name": "If-Match", "in": "header",
            "description": "Do nothing unless the ETag is still this one; `*` for any.",
            "schema": { "type": "string", "pattern": "^(\\*|\"(0|[1-9][0-9]{0,17})\")$" },
        });
        self.parameter(tag).refuses([412])
    }

    /// May be answered with a problem of these statuses, too.
    pub(crate) fn refuses<const N: usize>(mut self, statuses: [u16; N]) -> Self {
        self.0.problems.extend(statuses);
        self
    }

    /// Gives the operation its handler.
    pub(crate) fn to<F, Args>(self, handler: F) -> Operation
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let handle = Box::new(move |method| web::method(method).to(handler.clone()));
        Operation { description: self.0, handle }
    }

    fn parameter(mut self, parameter: Value) -> Self {
        self.0.parameters.push(parameter);
        self
    }
}

/// Serves the operations, with `port` for their handlers. Each GET answers HEAD, too; other methods of a path get 405 with the
/// list of its own.
pub(crate) fn serve<P: ?Sized + 'static>(
    config: &mut ServiceConfig,
    port: &Data<P>,
    operations: &[Operation],
) {
    let mut paths: Vec<&str> =
        operations.iter().map(|operation| operation.description.path.as_str()).collect();
    paths.dedup();
    for path in paths {
        let here = operations.iter().filter(|operation| operation.description.path == path);
        let (mut routes, mut allow) = (Vec::new(), Vec::new());
        for operation in here {
            let method = &operation.description.method;
            routes.push((operation.handle)(method.clone()));
            allow.push(method.as_str());
            if method == Method::GET {
                routes.push((operation.handle)(Method::HEAD));
                allow.push("HEAD");
            }
        }
        answer::resource(config, path, allow.join(", "), routes, |resource| resource.app_data(port.clone()));
    }
}
