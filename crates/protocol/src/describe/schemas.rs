//! The shapes of all bodies and frames, out of the types that read and write them.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// A type of which only the schema counts.
#[derive(Debug, Clone, Copy)]
pub struct Shape(pub fn(&mut SchemaGenerator) -> Schema);

impl Shape {
    /// The shape of `T`.
    pub const fn of<T: JsonSchema>() -> Self {
        Self(SchemaGenerator::subschema_for::<T>)
    }
}

/// Where the schema `name` is found, in both documents.
pub(crate) fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

/// Collects the schemas that a document refers to.
///
/// What is read and what is written differ: a reader may take less (fields with a default) and more
/// (`null` for an absent field) than a writer ever gives.
#[derive(Debug)]
pub(crate) struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Schemas {
    /// For OpenAPI 3.1, whose schemas are JSON Schema 2020-12.
    pub(crate) fn new() -> Self {
        Self::with(SchemaSettings::draft2020_12())
    }

    /// For AsyncAPI 3, whose schemas are JSON Schema draft 7: nothing may stand beside a `$ref`.
    pub(crate) fn draft07() -> Self {
        Self::with(SchemaSettings::draft07())
    }

    fn with(settings: SchemaSettings) -> Self {
        let settings = settings.with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings.transforms.insert(0, Box::new(RecursiveTransform(drop_rust_formats)));
        });
        let mut written = settings.clone().for_serialize();
        written.transforms.insert(0, Box::new(RecursiveTransform(drop_null)));
        Self { read: settings.for_deserialize().into_generator(), written: written.into_generator() }
    }

    /// Refers to what the server reads.
    pub(crate) fn read(&mut self, shape: Shape) -> Value {
        shape.0(&mut self.read).to_value()
    }

    /// Refers to what the server writes.
    pub(crate) fn written(&mut self, shape: Shape) -> Value {
        shape.0(&mut self.written).to_value()
    }

    /// All that was referred to, by name.
    pub(crate) fn into_components(mut self) -> Map<String, Value> {
        let mut all = self.read.take_definitions(true);
        for (name, schema) in self.written.take_definitions(true) {
            // One name, two meanings would be a bug in our types; the test of the documents meets it first.
            assert!(
                all.get(&name).is_none_or(|other| *other == schema),
                "{name} is read and written, and not the same: make it two types"
            );
            all.insert(name, schema);
        }
        all.sort_keys();
        all
    }
}

/// Gives each case of the union `name` a name of its own: `prefix` and its `type` in one word.
///
/// Generated code then has a type for each event instead of one with twelve nameless cases.
pub(crate) fn name_cases(schemas: &mut Map<String, Value>, name: &str, prefix: &str) {
    let Some(Value::Array(cases)) = schemas.get_mut(name).and_then(|union| union.get_mut("oneOf")) else {
        return;
    };
    let mut named = Map::new();
    let mut mapping = Map::new();
    for case in cases {
        let kind = case["properties"]["type"]["const"].as_str().unwrap_or_default().to_owned();
        let case_name = format!("{prefix}{}", one_word(&kind));
        mapping.insert(kind, reference(&case_name).into());
        let schema = std::mem::replace(case, json!({ "$ref": reference(&case_name) }));
        named.insert(case_name, schema);
    }
    schemas[name]["discriminator"] = json!({ "propertyName": "type", "mapping": mapping });
    schemas.append(&mut named);
    schemas.sort_keys();
}

/// `message_ack` as `MessageAck`.
pub(crate) fn one_word(snake_case: &str) -> String {
    snake_case
        .split('_')
        .flat_map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            [first.to_ascii_uppercase(), rest.to_owned()]
        })
        .collect()
}

/// `uint64` and its like are names of Rust's, not formats that others know.
fn drop_rust_formats(schema: &mut Schema) {
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        schema.remove("format");
    }
}

/// What is absent is left out; `null` is never written.
fn drop_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_mut_slice() {
            let only = only.take();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(cases)) = schema.get_mut("anyOf") {
        cases.retain(|case| *case != json!({ "type": "null" }));
        if let [Value::Object(only)] = cases.as_mut_slice() {
            let only = std::mem::take(only);
            schema.remove("anyOf");
            for (key, value) in only {
                schema.insert(key, value);
            }
        }
    }
}
