//! The macro that declares a port: its trait, and beside it a decorator that reports every call.
//!
//! Invariant: trait and decorator come from the same text, so no method can go unreported.

use std::time::Duration;

/// What a port call came to, as metrics and logs tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// The port did what it was asked.
    Done,
    /// The port answered with an error of its domain.
    Refused,
    /// The context could not be asked or failed.
    Unavailable,
}

/// One finished call of a port.
#[derive(Debug, Clone, Copy)]
pub struct PortCall {
    /// The context that was called.
    pub context: &'static str,
    /// The method of its port.
    pub method: &'static str,
    /// What it came to.
    pub outcome: CallOutcome,
    /// How long it took.
    pub took: Duration,
}

/// Is told of every port call that passes a decorator.
pub trait PortObserver: Send + Sync {
    /// Must be quick and must not fail: it runs on the way of every call.
    fn called(&self, call: &PortCall);
}

/// An error of a port, as far as a decorator must understand it.
pub trait PortError {
    /// The outage behind it, where there is one.
    fn unavailable(&self) -> Option<&crate::Unavailable>;

    /// What a call that ended with it came to.
    fn outcome(&self) -> CallOutcome {
        match self.unavailable() {
            Some(_) => CallOutcome::Unavailable,
            None => CallOutcome::Refused,
        }
    }
}

/// Declares a port as `pub trait NAME observed by DECORATOR in CONTEXT { … }`. Every method is `async`, takes `&self`, the
/// [`CallContext`](crate::CallContext) and owned arguments, and returns a `Result` whose error is a [`PortError`].
#[macro_export]
macro_rules! port {
    (
        $(#[$about:meta])*
        pub trait $port:ident observed by $decorator:ident in $context:expr;
        {
            $(
                $(#[$says:meta])*
                async fn $method:ident(&self, ctx: &$call:ident $(, $argument:ident: $kind:ty)* $(,)?) -> Result<$value:ty, $error:ty>;
            )*
        }
    ) => {
        $(#[$about])*
        #[async_trait::async_trait]
        pub trait $port: Send + Sync {
            $(
                $(#[$says])*
                async fn $method(&self, ctx: &$call $(, $argument: $kind)*) -> Result<$value, $error>;
            )*
        }

        #[doc = concat!("Reports every call of a [`", stringify!($port), "`] to an observer.")]
        pub struct $decorator {
            inner: std::sync::Arc<dyn $port>,
            observer: std::sync::Arc<dyn $crate::port::PortObserver>,
        }

        impl $decorator {
            /// This port, with its calls reported.
            pub fn new(
                inner: std::sync::Arc<dyn $port>,
                observer: std::sync::Arc<dyn $crate::port::PortObserver>,
            ) -> Self {
                Self { inner, observer }
            }
        }

        #[async_trait::async_trait]
        impl $port for $decorator {
            $(
                async fn $method(&self, ctx: &$call $(, $argument: $kind)*) -> Result<$value, $error> {
                    let begun = std::time::Instant::now();
                    let result = self.inner.$method(ctx $(, $argument)*).await;
                    let outcome = match &result {
                        Ok(_) => $crate::port::CallOutcome::Done,
                        Err(error) => $crate::port::PortError::outcome(error),
                    };
                    self.observer.called(&$crate::port::PortCall {
                        context: $context,
                        method: stringify!($method),
                        outcome,
                        took: begun.elapsed(),
                    });
                    result
                }
            )*
        }
    };
}
