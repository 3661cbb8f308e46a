//! Avro in the wire format of a schema registry. The event is read with the schema it was written
//! with, and the handler's type takes from it what it names: serde is the resolution.
//!
//! Fields are found by name, in any order; those that the type does not have are passed over, and
//! those that the schema does not have need a `#[serde(default)]` or an `Option`.
//!
//! A `uuid` is text as serde's `Uuid` reads it, a time is its number, a `decimal` its unscaled bytes, a
//! union whatever is in it: `null` is `None`. Which of several records a union holds is told by their
//! fields (`#[serde(untagged)]`), because the value has lost their names.

use apache_avro::schema::ResolvedSchema;
use serde::de::DeserializeOwned;

use crate::event::{DecodeError, Event};
use crate::format::avro_reader::{MOST_DEEP, MOST_EMPTY, Obstacle};
use crate::format::avro_value::AvroValue;
use crate::format::json::missing_field_in;
use crate::format::{Encoded, Schema, framed, payload};

/// Decodes an Avro event with the schema that its first bytes name.
///
/// # Errors
/// A tombstone, a payload in another form, a schema that the registry does not know or that is of
/// another kind, and data that is not of its schema, is nested more than 128 deep, has tens of thousands
/// of values that take no bytes, or does not fit the type. The error never quotes the payload.
pub fn decode_avro<T: DeserializeOwned>(event: Encoded<'_>) -> Result<T, DecodeError> {
    let (id, body) = framed::split(payload(&event)?)?;
    let schema = match event.schemas().get(id) {
        Some(Ok(schema)) => schema,
        Some(Err(why)) => return Err(DecodeError::new(&**why)),
        None => {
            return Err(DecodeError::new(format!(
                "schema {id} was not asked for: this type of event cannot be decoded without a \
                 schema registry"
            )));
        }
    };
    let value = schema.read(body).map_err(|obstacle| {
        DecodeError::new(match obstacle {
            Obstacle::Depth => format!(
                "the payload is nested more than {MOST_DEEP} deep: so many records, arrays and maps \
                 can be in each other"
            ),
            Obstacle::Empty => format!(
                "the payload has more than {MOST_EMPTY} values that take no bytes, and more than one \
                 for each of its bytes"
            ),
            Obstacle::Form => format!("the payload is not of the schema that it names, {id}"),
        })
    })?;
    T::deserialize(AvroValue(&value)).map_err(|error| {
        DecodeError::new(match missing_field_in(&error.to_string()) {
            Some(field) => format!("the schema of the event, {id}, has no field {field}"),
            None => format!(
                "the event, whose schema is {id}, does not have the shape of the handler's event"
            ),
        })
    })
}

/// The id of the schema that an event was written with.
pub fn schema_of_avro(event: &Event) -> Option<u32> {
    let (id, _) = framed::split(event.payload.as_deref()?).ok()?;
    // No registry gives a higher one, and some answer such a question as if they were not there.
    i32::try_from(id).is_ok().then_some(id)
}

impl Schema {
    /// Parses a schema and the schemas it refers to.
    pub(crate) fn parse(text: &str, references: &[String]) -> Option<Self> {
        let (avro, references) = match references.is_empty() {
            true => (apache_avro::Schema::parse_str(text).ok()?, Vec::new()),
            false => apache_avro::Schema::parse_str_with_list(text, references).ok()?,
        };
        Some(Self { avro, references: ordered(references) })
    }
}

/// Each behind those that it names: apache-avro looks for a name among those before.
fn ordered(mut references: Vec<apache_avro::Schema>) -> Vec<apache_avro::Schema> {
    let mut ordered = Vec::with_capacity(references.len());
    loop {
        let next = references.iter().position(|it| {
            ResolvedSchema::try_from(ordered.iter().chain([it]).collect::<Vec<_>>()).is_ok()
        });
        match next {
            Some(next) => ordered.push(references.remove(next)),
            None => break,
        }
    }
    ordered.append(&mut references);
    ordered
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use apache_avro::types::Value;
    use serde::Deserialize;

    use super::*;
    use crate::format::{Known, Schemas};

    const ORDER: &str = r#"{"type": "record", "name": "Order", "fields": [
        {"name": "id", "type": "string"},
        {"name": "cents", "type": ["null", "long"], "default": null},
        {"name": "old", "type": "boolean"}]}"#;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Order {
        cents: Option<i64>,
        id: String,
        #[serde(default)]
        new: Vec<u8>,
    }

    fn schemas(known: Known) -> Schemas {
        Schemas::of(HashMap::from([(7, known)]))
    }

    fn known() -> Schemas {
        schemas(Ok(Arc::new(Schema::parse(ORDER, &[]).unwrap())))
    }

    fn event(id: u32, body: &[u8]) -> Event {
        let mut payload = vec![0];
        payload.extend(id.to_be_bytes());
        payload.extend(body);
        Event::new("t".into(), 0, 0, payload)
    }

    fn body() -> Vec<u8> {
        let order = Value::Record(vec![
            ("id".into(), Value::String("hunter2".into())),
            ("cents".into(), Value::Union(1, Box::new(Value::Long(-5)))),
            ("old".into(), Value::Boolean(true)),
        ]);
        let schema = apache_avro::Schema::parse_str(ORDER).unwrap();
        apache_avro::to_avro_datum(&schema, order).unwrap()
    }

    fn refused<T: DeserializeOwned>(event: &Event, schemas: &Schemas) -> String {
        let error = decode_avro::<T>(Encoded::new(event, schemas))
            .err()
            .expect("it is refused")
            .to_string();
        assert!(!error.contains("hunter2"), "{error}");
        error
    }

    #[test]
    fn a_type_takes_from_the_schema_what_it_names() {
        let order = decode_avro::<Order>(Encoded::new(&event(7, &body()), &known())).unwrap();
        assert_eq!(order, Order { id: "hunter2".into(), cents: Some(-5), new: Vec::new() });
        assert_eq!(schema_of_avro(&event(7, &body())), Some(7));
        assert_eq!(schema_of_avro(&Event::new("t".into(), 0, 0, "{}")), None);
    }

    #[test]
    fn the_types_of_avro_become_those_of_serde() {
        #[derive(Debug, PartialEq, Deserialize)]
        enum Kind {
            Card,
            Cash,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Line {
            sku: String,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct All {
            text_id: uuid::Uuid,
            logical_id: uuid::Uuid,
            at: i64,
            kind: Kind,
            lines: Vec<Line>,
            tags: HashMap<String, i32>,
            parent: Option<Line>,
            price: f64,
            bytes: Vec<u8>,
            total: Vec<u8>,
        }
        let id = uuid::Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0);
        let schema = r#"{"type": "record", "name": "All", "fields": [
            {"name": "text_id", "type": "string"},
            {"name": "logical_id", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["Card", "Cash"]}},
            {"name": "lines", "type": {"type": "array", "items":
                {"type": "record", "name": "Line", "fields": [{"name": "sku", "type": "string"}]}}},
            {"name": "tags", "type": {"type": "map", "values": "int"}},
            {"name": "parent", "type": ["null", "Line"]},
            {"name": "price", "type": "double"}, {"name": "bytes", "type": ["null", "bytes"]},
            {"name": "total", "type":
                {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}]}"#;
        let line = |sku: &str| Value::Record(vec![("sku".into(), Value::String(sku.into()))]);
        let written = Value::Record(vec![
            ("text_id".into(), Value::String(id.to_string())),
            ("logical_id".into(), Value::Uuid(id)),
            ("at".into(), Value::TimestampMillis(7)),
            ("kind".into(), Value::Enum(1, "Cash".into())),
            ("lines".into(), Value::Array(vec![line("a"), line("b")])),
            ("tags".into(), Value::Map(HashMap::from([("x".to_owned(), Value::Int(1))]))),
            ("parent".into(), Value::Union(1, Box::new(line("p")))),
            ("price".into(), Value::Double(1.5)),
            ("bytes".into(), Value::Union(1, Box::new(Value::Bytes(vec![0, 255])))),
            ("total".into(), Value::Decimal(vec![1, 44].into())),
        ]);
        let avro = apache_avro::Schema::parse_str(schema).unwrap();
        let body = apache_avro::to_avro_datum(&avro, written).unwrap();
        let known = schemas(Ok(Arc::new(Schema::parse(schema, &[]).unwrap())));
        let line = |sku: &str| Line { sku: sku.into() };
        let expected = All {
            text_id: id,
            logical_id: id,
            at: 7,
            kind: Kind::Cash,
            lines: vec![line("a"), line("b")],
            tags: HashMap::from([("x".to_owned(), 1)]),
            parent: Some(line("p")),
            price: 1.5,
            bytes: vec![0, 255],
            total: vec![1, 44],
        };
        let read = decode_avro::<All>(Encoded::new(&event(7, &body), &known));
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn types_of_another_schema_can_be_used() {
        let money = r#"{"type": "record", "name": "Money", "fields": [
            {"name": "cents", "type": "long"}]}"#;
        let order = r#"{"type": "record", "name": "Order", "fields": [
            {"name": "net", "type": "Money"}, {"name": "gross", "type": "Money"}]}"#;
        #[derive(Debug, PartialEq, Deserialize)]
        struct Money {
            cents: i64,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Sum {
            net: Money,
            gross: Money,
        }
        let schema = Schema::parse(order, &[money.to_owned()]).unwrap();
        let sum: Sum =
            decode_avro(Encoded::new(&event(7, &[2, 4]), &schemas(Ok(Arc::new(schema))))).unwrap();
        assert_eq!(sum, Sum { net: Money { cents: 1 }, gross: Money { cents: 2 } });
    }

    #[test]
    fn schemas_that_refer_to_each_other_can_be_used_in_any_order() {
        let record = |name: &str, fields: &[(&str, &str)]| {
            let field =
                |(name, of): &(&str, &str)| format!(r#"{{"name": "{name}", "type": "{of}"}}"#);
            let fields: Vec<_> = fields.iter().map(field).collect();
            let fields = fields.join(",");
            format!(r#"{{"type": "record", "name": "{name}", "fields": [{fields}]}}"#)
        };
        #[derive(Debug, PartialEq, Deserialize)]
        struct C {
            n: i32,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct B {
            c: C,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct A {
            b: B,
            c: C,
        }
        let (b, c) = (record("B", &[("c", "C")]), record("C", &[("n", "int")]));
        for others in [[b.clone(), c.clone()], [c, b]] {
            let schema = Schema::parse(&record("A", &[("b", "B"), ("c", "C")]), &others).unwrap();
            let known = schemas(Ok(Arc::new(schema)));
            let read: A = decode_avro(Encoded::new(&event(7, &[2, 4]), &known)).unwrap();
            assert_eq!(read, A { b: B { c: C { n: 1 } }, c: C { n: 2 } });
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_quoting_it() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only its shape matters")]
        struct Other {
            customer: String,
        }
        assert!(refused::<Other>(&event(7, &body()), &known()).contains("`customer`"));
        assert!(refused::<i64>(&event(7, &body()), &known()).contains("shape"));
        let mut longer = body();
        longer.push(0);
        assert!(refused::<Order>(&event(7, &longer), &known()).contains("not of the schema"));
        for length in 0..body().len() {
            let cut = refused::<Order>(&event(7, &body()[..length]), &known());
            assert!(cut.contains("not of the schema"), "{length}");
        }
        let unknown = schemas(Err("the schema registry knows no schema 7".into()));
        assert!(refused::<Order>(&event(7, &body()), &unknown).contains("knows no"));
        assert!(refused::<Order>(&event(8, &body()), &known()).contains("asked for"));
        let json = Event::new("t".into(), 0, 0, r#"{"id": "hunter2"}"#);
        assert!(refused::<Order>(&json, &known()).contains("wire format"));
    }
}
