//! One operation of the admin API: its route and its description, from the same place.
//!
//! Invariant: whatever is served is described, and whatever is described is served, because both are made from the
//! same list.

use std::borrow::Cow;

use actix_web::http::Method;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpResponse, Responder, Route};
use platform::problem::Problem;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

/// A type as a schema of the document.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Its name among the document's components.
    pub(super) name: fn() -> Cow<'static, str>,
    /// Its schema.
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Shape {
    fn of<T: JsonSchema>() -> Self {
        Self { name: T::schema_name, schema: T::json_schema }
    }
}

/// An operation: how it is described, and what handles it.
pub(crate) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// Unique among all operations: what generated clients call it.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<Shape>,
    /// What it answers when all goes well; a text where it is none of these.
    pub(super) answer: Option<Shape>,
    /// Statuses of its problem documents.
    pub(super) problems: Vec<u16>,
    handle: Box<dyn Fn() -> Route>,
}

/// An operation that reads something.
pub(crate) fn get<F, Args>(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    handler: F,
) -> Operation
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    Operation::new(Method::GET, path, id, summary, handler)
}

/// An operation that sets something.
pub(crate) fn put<F, Args>(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    handler: F,
) -> Operation
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    Operation::new(Method::PUT, path, id, summary, handler)
}

impl Operation {
    fn new<F, Args>(
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: F,
    ) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let handled = method.clone();
        let handle = Box::new(move || web::method(handled.clone()).to(handler.clone()));
        let (parameters, problems) = (Vec::new(), vec![401, 403]);
        Self { method, path, id, summary, parameters, body: None, answer: None, problems, handle }
    }

    /// Answers with a document of this type.
    pub(crate) fn returns<T: JsonSchema>(mut self) -> Self {
        self.answer = Some(Shape::of::<T>());
        self
    }

    /// Takes a document of this type.
    pub(crate) fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some(Shape::of::<T>());
        self.refuses(&[400, 413, 422])
    }

    /// Asks the control store, which may be away.
    pub(crate) fn asks_store(self) -> Self {
        self.refuses(&[503])
    }

    /// May be answered with a problem of these statuses, too.
    pub(crate) fn refuses(mut self, statuses: &[u16]) -> Self {
        self.problems.extend(statuses);
        self
    }

    /// `{context}` in the path.
    pub(crate) fn of_context(mut self) -> Self {
        self.parameters.push(json!({
            "name": "context", "in": "path", "required": true,
            "description": "Name of the context.", "schema": { "type": "string" },
        }));
        self.refuses(&[404])
    }

    /// A parameter of the query string.
    pub(crate) fn query(mut self, name: &str, description: &str, schema: &Value) -> Self {
        self.parameters
            .push(json!({ "name": name, "in": "query", "description": description, "schema": schema }));
        self.refuses(&[400])
    }
}

/// Serves the operations; another method of a path gets 405.
pub(super) fn serve(config: &mut ServiceConfig, operations: &[Operation]) {
    let mut paths: Vec<&str> = operations.iter().map(|operation| operation.path).collect();
    paths.dedup();
    for path in paths {
        let here = || operations.iter().filter(|operation| operation.path == path);
        let allow: Vec<&str> = here().map(|operation| operation.method.as_str()).collect();
        let allow = allow.join(", ");
        let not_allowed = move || {
            let allow = allow.clone();
            async move { HttpResponse::from_error(method_not_allowed(allow)) }
        };
        let resource =
            here().fold(web::resource(path), |resource, operation| resource.route((operation.handle)()));
        config.service(resource.default_service(web::to(not_allowed)));
    }
}

fn method_not_allowed(allow: String) -> Problem {
    let detail = format!("allowed here: {allow}");
    Problem::new(actix_web::http::StatusCode::METHOD_NOT_ALLOWED).detail(detail).allow(allow)
}
