//! The AsyncAPI document.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::events::{CLIENT, CLOSES, Event, SERVER, Side};
use super::schemas::{self, Schemas, Shape};
use crate::event::{ClientEvent, ServerEvent};

const ABOUT: &str = "\
The socket of Tertulia. One text frame is one event, a JSON object with a `type`; all conversations share one \
socket. Fields and events that are not known are ignored by clients; the server answers an event that it does not \
understand with an `error` and goes on.";

/// The socket as AsyncAPI 3.1, for the given version of the service.
pub fn asyncapi(version: &str) -> Value {
    let mut schemas = Schemas::draft07();
    schemas.read(Shape::of::<ClientEvent>());
    schemas.written(Shape::of::<ServerEvent>());
    let mut schemas = schemas.into_components();
    for (union, prefix) in [("ClientEvent", "Client"), ("ServerEvent", "Server")] {
        schemas::name_cases(&mut schemas, union, prefix);
        schemas.remove(union);
    }
    let events = || CLIENT.iter().chain(SERVER);
    let messages = events().map(|event| (event.schema_name(), message(event)));
    let of_channel = events().map(|event| {
        let name = event.schema_name();
        (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") }))
    });
    let operations = events().filter_map(|event| Some((operation_name(event)?, operation(event))));
    json!({
        "asyncapi": "3.1.0",
        "info": {
            "title": "Tertulia",
            "version": version,
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:8080",
                "protocol": "ws",
                "description": "Where `tertulia serve` listens if it is not told otherwise.",
            },
        },
        "channels": {
            "socket": {
                "address": "/api/ws",
                "title": "The socket",
                "description": closes(),
                "messages": Map::from_iter(of_channel),
                "bindings": { "ws": { "method": "GET" } },
            },
        },
        "operations": Map::from_iter(operations),
        "components": { "messages": Map::from_iter(messages), "schemas": schemas },
    })
}

fn message(event: &Event) -> Value {
    json!({
        "name": event.name,
        "title": event.schema_name(),
        "description": event.text,
        "payload": { "$ref": schemas::reference(&event.schema_name()) },
    })
}

/// An operation for each event of the client, and one for each of the server's that comes unasked.
fn operation_name(event: &Event) -> Option<String> {
    let only_answers = |name| matches!(name, "ready" | "message_ack" | "pong");
    match event.from {
        Side::Client => Some(format!("receive{}", event.schema_name())),
        Side::Server if only_answers(event.name) => None,
        Side::Server => Some(format!("send{}", event.schema_name())),
    }
}

/// Actions are the server's: it receives what a client says.
fn operation(event: &Event) -> Value {
    let of_channel = |name: &str| json!({ "$ref": format!("#/channels/socket/messages/{name}") });
    let mut described = json!({
        "action": if event.from == Side::Client { "receive" } else { "send" },
        "channel": { "$ref": "#/channels/socket" },
        "messages": [of_channel(&event.schema_name())],
    });
    if !event.answers.is_empty() {
        let answers =
            event.answers.iter().map(|name| of_channel(&format!("Server{}", schemas::one_word(name))));
        described["reply"] = json!({
            "channel": { "$ref": "#/channels/socket" },
            "messages": Value::from_iter(answers),
        });
    }
    described
}

/// AsyncAPI has no place of its own for close codes; people read them here.
fn closes() -> String {
    let mut text = "Close codes:\n".to_owned();
    for (code, meaning) in CLOSES {
        // Writing to a string does not fail.
        let _ = write!(text, "\n- `{code}`: {meaning}");
    }
    text
}
