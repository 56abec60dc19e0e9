//! The service described for programs: OpenAPI 3.1 for the calls, AsyncAPI 3.1 for the socket.
//!
//! Two tables say what there is: [`calls`] and [`events`]. The shapes come from the types themselves
//! ([`schemas`]), so a document cannot name a field that is not on the wire. [`openapi()`] and
//! [`asyncapi()`] only write down what the tables and the types say.
//!
//! The documents as they are now lie in `docs/api`; a test compares them, and
//! `UPDATE_EXPECT=1 cargo test -p tertulia-protocol` writes them anew.

pub mod calls;
pub mod events;
pub mod schemas;

mod asyncapi;
mod openapi;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use serde_json::{Value, json};

pub use asyncapi::asyncapi;
pub use openapi::openapi;

use calls::{Body, Call};
use schemas::{Schemas, Shape};

use crate::problem::Problem;

/// The schema of what `method path` answers with `status`; `path` is a real one, with or without its query.
///
/// It stands for itself: what it refers to is inside. `None` if the description knows no such answer, or one
/// that is no JSON.
pub fn schema_for_answer(method: &str, path: &str, status: u16) -> Option<Value> {
    let call = Call::find(method, path)?;
    let body = match call.answers.iter().find(|answer| answer.status == status) {
        Some(answer) => answer.body,
        None if call.problems().iter().any(|(code, _)| code.status() == status) => Body::Problem,
        None => return None,
    };
    let shape = match body {
        Body::Json(shape) => shape,
        Body::Problem => Shape::of::<Problem>(),
        Body::Empty | Body::Text(_) => return None,
    };
    Some(alone(&Schemas::new().written(shape)))
}

/// The schema of the frame that carries the server's event `name`; `None` if there is no such event.
///
/// It stands for itself: what it refers to is inside.
pub fn schema_for_event(name: &str) -> Option<Value> {
    let event = events::SERVER.iter().find(|event| event.name == name)?;
    Some(alone(&json!({ "$ref": schemas::reference(&event.schema_name()) })))
}

/// A schema together with everything that it may refer to.
fn alone(schema: &Value) -> Value {
    static COMPONENTS: OnceLock<Value> = OnceLock::new();
    let components = COMPONENTS.get_or_init(|| openapi("")["components"].clone());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "allOf": [schema],
        "components": components,
    })
}
