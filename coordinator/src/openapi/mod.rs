//! What the coordinator says of itself: an OpenAPI 3.1 document, and a page to browse it.
//!
//! Parameters, bodies and replies are read from the handlers' own extractors and reply types
//! ([`inputs`], [`replies`]). What no type can say stands beside the route in `router.rs`, as a
//! [`Description`]; example bodies are in `examples.json`. [`document`] puts it together.

mod codes;
pub mod document;
mod inputs;
mod page;
mod replies;
pub mod routes;
mod schema_text;

use aide::axum::{ApiRouter, routing};
use aide::generate::{GenContext, in_context};
use aide::openapi::{Operation, Response};
use aide::operation::{OperationHandler, OperationInput, OperationOutput};
use axum::Router;
use axum::handler::Handler;
use protocol::ErrorCode;
use protocol::wallet::Scope;

pub use replies::EventStream;

/// What no type of a handler says: a name, a sentence, who may call, which refusals are its own.
#[derive(Debug, Clone)]
pub struct Description {
    id: &'static str,
    summary: &'static str,
    audience: &'static str,
    scopes: &'static [Scope],
    codes: &'static [ErrorCode],
    replies: Option<Replies>,
}

/// The replies of a type, with their statuses.
type Replies = fn(&mut GenContext, &mut Operation) -> Vec<(Option<u16>, Response)>;

/// For everybody: no key is asked for. `id` names the operation, `summary` is README's sentence.
pub const fn public(id: &'static str, summary: &'static str) -> Description {
    described(id, summary, "public", &[])
}

/// For those who submit jobs.
pub const fn client(id: &'static str, summary: &'static str) -> Description {
    described(id, summary, "client", &[Scope::Client])
}

/// For nodes.
pub const fn miner(id: &'static str, summary: &'static str) -> Description {
    described(id, summary, "miner", &[Scope::Miner])
}

/// For whoever holds an account.
pub const fn wallet(id: &'static str, summary: &'static str) -> Description {
    described(id, summary, "wallet", &[Scope::Miner, Scope::Client])
}

/// For operators.
pub const fn operator(id: &'static str, summary: &'static str) -> Description {
    described(id, summary, "operator", &[Scope::Admin])
}

const fn described(
    id: &'static str,
    summary: &'static str,
    audience: &'static str,
    scopes: &'static [Scope],
) -> Description {
    Description { id, summary, audience, scopes, codes: &[], replies: None }
}

impl Description {
    /// Other scopes than those of its audience.
    #[must_use]
    pub const fn scopes(mut self, scopes: &'static [Scope]) -> Self {
        self.scopes = scopes;
        self
    }

    /// The refusals that its extractors and reply types do not name.
    #[must_use]
    pub const fn refuses(mut self, codes: &'static [ErrorCode]) -> Self {
        self.codes = codes;
        self
    }

    /// The replies of `T`, for a handler whose own type does not say what it replies.
    #[must_use]
    pub fn replies<T: OperationOutput>(mut self) -> Self {
        self.replies = Some(T::inferred_responses);
        self
    }

    fn apply(self, operation: &mut Operation) {
        operation.operation_id = Some(self.id.to_owned());
        operation.summary = Some(self.summary.to_owned());
        operation.tags = vec![self.audience.to_owned()];
        operation.security = security(self.scopes);
        if !self.scopes.is_empty() {
            codes::add(operation, codes::WITH_A_KEY);
        }
        codes::add(operation, codes::ANY);
        codes::add(operation, self.codes);
        if let Some(replies) = self.replies {
            let replies = in_context(|context| replies(context, operation));
            replies::put(operation, replies);
        }
    }
}

/// Each scope in each of the two headers will do. The roles of a scheme that is not OAuth are the
/// scopes that a key must have.
fn security(scopes: &[Scope]) -> Vec<aide::openapi::SecurityRequirement> {
    let one = |scheme: &str, scope: &Scope| {
        [(scheme.to_owned(), vec![scope.to_string()])].into_iter().collect()
    };
    let both = |scope| [one("bearer", scope), one("api_key", scope)];
    scopes.iter().flat_map(both).collect()
}

/// Routes that are described: there are no others.
#[derive(Debug)]
pub struct Routes<S>(ApiRouter<S>);

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self(ApiRouter::new())
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// These and others.
    #[must_use]
    pub fn merge(self, others: Self) -> Self {
        Self(self.0.merge(others.0))
    }
}

impl<S: Clone + Send + Sync + 'static> From<Routes<S>> for Router<S> {
    fn from(routes: Routes<S>) -> Self {
        routes.0.into()
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident: $with:ident;)*) => {
        impl<S: Clone + Send + Sync + 'static> Routes<S> {$(
            $(#[$doc])*
            #[must_use]
            pub fn $name<H, I, O, T>(self, path: &str, handler: H, description: Description) -> Self
            where
                H: Handler<T, S> + OperationHandler<I, O>,
                I: OperationInput,
                O: OperationOutput,
                T: 'static,
            {
                let method = routing::$with(handler, |mut operation| {
                    description.apply(operation.inner_mut());
                    operation
                });
                Self(self.0.api_route(path, method))
            }
        )*}
    };
}

methods! {
    /// Routes GET requests to a handler.
    get: get_with;
    /// Routes POST requests to a handler.
    post: post_with;
    /// Routes PUT requests to a handler.
    put: put_with;
    /// Routes DELETE requests to a handler.
    delete: delete_with;
}
