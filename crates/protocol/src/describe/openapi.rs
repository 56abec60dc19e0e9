//! The OpenAPI document.

use serde_json::{Map, Value, json};

use super::calls::{Answer, Body, CALLS, Call, Parameter, Place, Tag, Who};
use super::schemas::{self, Schemas, Shape};
use crate::problem::{Code, Problem};

const PROBLEM: &str = "application/problem+json";

const ABOUT: &str = "\
Accounts, conversations, messages and receipts of Tertulia. What happens as it happens comes over the socket, \
`/api/ws`, which `/api/asyncapi.json` describes, or by long-polling `/api/events`.

Fields that are not known are ignored, here and by clients. Ids are UUIDs, times are RFC 3339 in UTC with \
milliseconds, sequence numbers are integers from 1, cursors and positions are opaque strings.

Every refusal is a problem document (RFC 9457). Its `code` is stable and made for programs, its `detail` says \
what to do. Every answer has an `X-Request-Id`, which the log of the server names too; a client may send its own.";

/// The calls as OpenAPI 3.1, for the given version of the service.
pub fn openapi(version: &str) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for call in CALLS {
        let path = paths.entry(call.path).or_insert_with(|| json!({}));
        path[call.method.to_ascii_lowercase()] = operation(call, &mut schemas);
    }
    let responses = Code::ALL.map(|code| (component(code), refusal(code, &mut schemas)));
    let mut components = schemas.into_components();
    schemas::name_cases(&mut components, "ServerEvent", "Server");
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tertulia",
            "version": version,
            "description": ABOUT,
            "license": { "name": "Apache License 2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": Tag::ALL.map(|(tag, text)| json!({ "name": tag.as_str(), "description": text })),
        "security": [{ "accessToken": [] }],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": Map::from_iter(responses),
            "securitySchemes": {
                "accessToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`accessToken` of a session; valid for 15 minutes, then refresh it.",
                },
            },
        },
    })
}

fn operation(call: &Call, schemas: &mut Schemas) -> Value {
    let mut operation = json!({
        "operationId": call.name,
        "tags": [call.tag.as_str()],
        "summary": call.summary,
        "description": format!("{}\n\nWho may: {}.", call.text, call.who.as_str()).trim_start(),
    });
    if call.who == Who::Anyone {
        operation["security"] = json!([]);
    }
    if !call.parameters.is_empty() {
        operation["parameters"] = call.parameters.iter().map(|it| parameter(it, schemas)).collect();
    }
    if let Some(shape) = call.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": schemas.read(shape) } },
        });
    }
    let mut responses = Map::new();
    for answer in call.answers {
        responses.insert(answer.status.to_string(), response(answer, schemas));
    }
    for (code, own) in call.problems() {
        let mut response = json!({ "$ref": format!("#/components/responses/{}", component(code)) });
        if let Some(text) = own {
            response["description"] = text.into();
        }
        responses.insert(code.status().to_string(), response);
    }
    responses.sort_keys();
    operation["responses"] = responses.into();
    operation
}

fn parameter(parameter: &Parameter, schemas: &mut Schemas) -> Value {
    let place = if parameter.place == Place::Path { "path" } else { "query" };
    let mut described = json!({
        "name": parameter.name,
        "in": place,
        "description": parameter.text,
        "schema": schemas.read(parameter.shape),
    });
    if parameter.place != Place::Query {
        described["required"] = true.into();
    }
    described
}

fn response(answer: &Answer, schemas: &mut Schemas) -> Value {
    let mut described = json!({ "description": answer.text });
    let (media_type, schema) = match answer.body {
        Body::Empty => return described,
        Body::Json(shape) => ("application/json", schemas.written(shape)),
        Body::Problem => (PROBLEM, schemas.written(Shape::of::<Problem>())),
        Body::Text(media_type) => (media_type, json!({ "type": "string" })),
    };
    described["content"] = json!({ media_type: { "schema": schema } });
    described
}

/// What is said of `code` wherever a call does not say more.
fn refusal(code: Code, schemas: &mut Schemas) -> Value {
    let text = match code {
        Code::Unauthenticated => "There is no valid access token: refresh the session, or log in.",
        Code::Forbidden => {
            "Not allowed, or not from this web page: its `Origin` is not one that the server knows."
        }
        Code::NotFound => "Not there, or not for the one who asks: the two cannot be told apart.",
        Code::Invalid => "The request is wrong; `detail` says what, and sending it again will not help.",
        Code::Conflict => "It contradicts what is there already.",
        Code::RateLimited => "Too much too fast.",
        Code::TooLarge => "Larger than the limit.",
        Code::Unavailable => {
            "The service cannot do it now; nothing was changed, or it is not known: try again."
        }
    };
    let mut described = json!({
        "description": text,
        "content": { PROBLEM: { "schema": schemas.written(Shape::of::<Problem>()) } },
    });
    if matches!(code, Code::RateLimited | Code::Unavailable) {
        described["headers"] = json!({
            "Retry-After": {
                "description": "Seconds to wait; `retryAfterMs` in the body is exact.",
                "required": true,
                "schema": { "type": "integer", "minimum": 0 },
            },
        });
    }
    described
}

/// The name of what is said of `code`.
fn component(code: Code) -> String {
    schemas::one_word(code.as_str())
}
