//! Events of Avro whose schema lets them be nested as deep as they like.
//!
//! apache-avro reads a value within a value by calling itself, as deep as the payload says: with a
//! schema that names itself a few bytes a level are enough to end the process. Values of such a schema
//! are taken apart here, to a limit, and what has no value within it is left to apache-avro. Schemas
//! that cannot be that deep, which are most, are known when they are parsed, and left to it as a whole.

use std::collections::HashMap;

use apache_avro::schema::{Name, NamesRef, Namespace, ResolvedSchema};
use apache_avro::types::Value;
use apache_avro::{AvroResult, Schema as Avro};

use crate::format::Schema;
use crate::format::avro::{Body, MOST_BYTES};

/// How many records, arrays and maps a value can be inside of: more than people nest, and far less than
/// what overflows the stack of a thread.
pub(super) const MOST_DEEP: usize = 128;

/// How deep values are that are left to apache-avro. Without optimization it takes 40 KiB a level.
const SHALLOW: usize = 8;

/// Why a payload cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It is nested too deep.
    Depth,
    /// It is not of its schema.
    Form,
}

impl Schema {
    /// The schemas that names in it mean.
    pub(super) fn names(&self) -> AvroResult<ResolvedSchema<'_>> {
        ResolvedSchema::try_from(self.references.iter().chain([&self.avro]).collect::<Vec<_>>())
    }

    /// Whether values of it can be deep.
    pub(super) fn can_be_deep(&self) -> bool {
        let Ok(resolved) = self.names() else { return true };
        let mut heights = Heights { names: resolved.get_names(), known: HashMap::new() };
        heights.of(&self.avro, &None, 0).is_none_or(|height| height > SHALLOW)
    }

    /// Reads one value, which is all of the bytes, to the limit.
    pub(super) fn read_deep(&self, bytes: &[u8]) -> Result<Value, Obstacle> {
        let resolved = self.names().map_err(|_| Obstacle::Form)?;
        let mut reader = Reader { names: resolved.get_names(), body: Body(bytes) };
        let value = reader.value(&self.avro, &None, 0)?;
        Some(value).filter(|_| reader.body.0.is_empty()).ok_or(Obstacle::Form)
    }
}

/// How deep values of a schema can be, at most.
struct Heights<'a> {
    names: &'a NamesRef<'a>,
    known: HashMap<Name, usize>,
}

impl Heights<'_> {
    /// `None` when it is deep or names itself, which is found out by going deep.
    fn of(&mut self, schema: &Avro, within: &Namespace, depth: usize) -> Option<usize> {
        if depth > SHALLOW {
            return None;
        }
        match schema {
            Avro::Array(array) => Some(1 + self.of(&array.items, within, depth + 1)?),
            Avro::Map(map) => Some(1 + self.of(&map.types, within, depth + 1)?),
            Avro::Union(union) => {
                let mut highest = 0;
                for variant in union.variants() {
                    highest = highest.max(self.of(variant, within, depth)?);
                }
                Some(highest)
            }
            Avro::Record(record) => {
                let name = record.name.fully_qualified_name(within);
                let mut highest = 0;
                for field in &record.fields {
                    highest = highest.max(self.of(&field.schema, &name.namespace, depth + 1)?);
                }
                Some(1 + highest)
            }
            Avro::Ref { name } => {
                let name = name.fully_qualified_name(within);
                if let Some(height) = self.known.get(&name) {
                    return Some(*height);
                }
                let named = *self.names.get(&name)?;
                let height = self.of(named, &name.namespace, depth)?;
                self.known.insert(name, height);
                Some(height)
            }
            _ => Some(0),
        }
    }
}

/// A payload that is being read.
struct Reader<'a> {
    names: &'a NamesRef<'a>,
    body: Body<'a>,
}

impl Reader<'_> {
    fn value(
        &mut self,
        schema: &Avro,
        within: &Namespace,
        depth: usize,
    ) -> Result<Value, Obstacle> {
        if depth > MOST_DEEP {
            return Err(Obstacle::Depth);
        }
        match schema {
            Avro::Array(array) => {
                let mut items = Vec::new();
                self.blocks(|reader| {
                    items.push(reader.value(&array.items, within, depth + 1)?);
                    Ok(())
                })?;
                Ok(Value::Array(items))
            }
            Avro::Map(map) => {
                let mut entries = HashMap::new();
                self.blocks(|reader| {
                    let Value::String(key) = reader.leaf(&Avro::String)? else {
                        return Err(Obstacle::Form);
                    };
                    entries.insert(key, reader.value(&map.types, within, depth + 1)?);
                    Ok(())
                })?;
                Ok(Value::Map(entries))
            }
            Avro::Union(union) => {
                let index = u32::try_from(self.number()?).map_err(|_| Obstacle::Form)?;
                let variant = usize::try_from(index).ok().and_then(|it| union.variants().get(it));
                let value = self.value(variant.ok_or(Obstacle::Form)?, within, depth)?;
                Ok(Value::Union(index, Box::new(value)))
            }
            Avro::Record(record) => {
                let name = record.name.fully_qualified_name(within);
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    let value = self.value(&field.schema, &name.namespace, depth + 1)?;
                    fields.push((field.name.clone(), value));
                }
                Ok(Value::Record(fields))
            }
            Avro::Ref { name } => {
                let name = name.fully_qualified_name(within);
                let named = *self.names.get(&name).ok_or(Obstacle::Form)?;
                self.value(named, &name.namespace, depth)
            }
            leaf => self.leaf(leaf),
        }
    }

    /// A value that no other is in.
    fn leaf(&mut self, schema: &Avro) -> Result<Value, Obstacle> {
        apache_avro::from_avro_datum(schema, &mut self.body, None).map_err(|_| Obstacle::Form)
    }

    /// The items of an array or a map, which come in blocks.
    fn blocks(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Obstacle>,
    ) -> Result<(), Obstacle> {
        loop {
            let count = self.number()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The block's size in bytes, for those who pass over it.
                self.number()?;
            }
            let count = count.unsigned_abs();
            // Items of no bytes are no reason to make any number of them.
            if count > MOST_BYTES as u64 {
                return Err(Obstacle::Form);
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    fn number(&mut self) -> Result<i64, Obstacle> {
        match self.leaf(&Avro::Long)? {
            Value::Long(number) => Ok(number),
            _ => Err(Obstacle::Form),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::event::Event;
    use crate::format::avro::decode_avro;
    use crate::format::{Encoded, Schemas};

    const LIST: &str = r#"{"type": "record", "name": "Node", "namespace": "shop", "fields": [
        {"name": "next", "type": ["null", "Node"]}]}"#;

    #[derive(Debug, Deserialize)]
    struct Node {
        next: Option<Box<Node>>,
    }

    impl Node {
        fn depth(&self) -> usize {
            1 + self.next.as_ref().map_or(0, |next| next.depth())
        }
    }

    fn schema(text: &str) -> Schema {
        Schema::parse(text, &[]).unwrap()
    }

    /// Reads a list of so many nodes on a thread as small as those that handlers run on, and answers
    /// how many it has, or why it cannot be read.
    fn read(nodes: usize) -> Result<usize, String> {
        let mut payload = vec![0, 0, 0, 0, 7];
        payload.extend(vec![2; nodes - 1]);
        payload.push(0);
        let event = Event::new("t".into(), 0, 0, payload);
        let schemas = Schemas::of([(7, Ok(std::sync::Arc::new(schema(LIST))))].into());
        let read = move || decode_avro::<Node>(Encoded::new(&event, &schemas)).map(|it| it.depth());
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(read).unwrap();
        thread.join().unwrap().map_err(|error| error.to_string())
    }

    /// Half of what the threads of tokio have.
    const STACK: usize = 1 << 20;

    #[test]
    fn an_event_as_deep_as_is_allowed_is_read() {
        assert_eq!(read(1), Ok(1));
        assert_eq!(read(MOST_DEEP), Ok(MOST_DEEP));
    }

    #[test]
    fn an_event_that_is_deeper_is_refused_and_does_not_end_the_process() {
        for nodes in [MOST_DEEP + 1, 1000, 10_000_000] {
            let refused = read(nodes).unwrap_err();
            assert!(refused.contains("nested more than 128 deep"), "{refused}");
        }
    }

    #[test]
    fn a_schema_that_is_in_itself_without_end_is_refused() {
        let endless = r#"{"type": "record", "name": "A", "fields": [{"name": "a", "type": "A"}]}"#;
        assert_eq!(schema(endless).read(&[]), Err(Obstacle::Depth));
    }

    #[test]
    fn schemas_that_cannot_be_deep_are_left_to_apache_avro() {
        let tree = r#"{"type": "record", "name": "Tree", "fields": [
            {"name": "children", "type": {"type": "array", "items": "Tree"}}]}"#;
        assert!(schema(LIST).can_be_deep() && schema(tree).can_be_deep());
        // Each array holds the one before.
        let arrays = |depth: usize| {
            let array = |of, _| format!(r#"{{"type": "array", "items": {of}}}"#);
            schema(&(0..depth).fold(r#""int""#.to_owned(), array))
        };
        assert!(!arrays(SHALLOW).can_be_deep() && arrays(SHALLOW + 1).can_be_deep());
        // Many ways lead to the last of these; that does not make it deep, nor long to look at.
        let record = |n: usize| {
            let of = if n == 7 { "int".to_owned() } else { format!("R{}", n + 1) };
            let field = |name: usize| format!(r#"{{"name": "f{name}", "type": "{of}"}}"#);
            let fields: Vec<_> = (0..100).map(field).collect();
            format!(r#"{{"type": "record", "name": "R{n}", "fields": [{}]}}"#, fields.join(","))
        };
        let others: Vec<_> = (1..8).map(record).collect();
        assert!(!Schema::parse(&record(0), &others).unwrap().can_be_deep());
    }

    #[test]
    fn it_is_read_as_apache_avro_reads_it() {
        let tree = r#"{"type": "record", "name": "Tree", "namespace": "a.b", "fields": [
            {"name": "a", "type": "boolean"}, {"name": "b", "type": "float"},
            {"name": "c", "type": "double"}, {"name": "d", "type": "string"},
            {"name": "e", "type": {"type": "enum", "name": "c.E", "symbols": ["X", "Y"]}},
            {"name": "f", "type": {"type": "fixed", "name": "F", "size": 3}},
            {"name": "g", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "h", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "i", "type":
                {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
            {"name": "j", "type": {"type": "map", "values": ["null", "F", "c.E"]}},
            {"name": "k", "type": {"type": "array", "items": "null"}},
            {"name": "children", "type": {"type": "array", "items": "Tree"}}]}"#;
        let node = |children: Vec<Value>| {
            let three = Value::Union(1, Box::new(Value::Fixed(3, vec![4, 5, 6])));
            let fields = [
                ("a", Value::Boolean(true)),
                ("b", Value::Float(1.5)),
                ("c", Value::Double(2.5)),
                ("d", Value::String("text".into())),
                ("e", Value::Enum(1, "Y".into())),
                ("f", Value::Fixed(3, vec![1, 2, 3])),
                ("g", Value::Uuid(uuid::Uuid::from_u128(7))),
                ("h", Value::TimestampMillis(i64::MIN)),
                ("i", Value::Decimal(vec![1, 44].into())),
                ("j", Value::Map([("x".to_owned(), three)].into())),
                ("k", Value::Array(vec![Value::Null; 3])),
                ("children", Value::Array(children)),
            ];
            Value::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())
        };
        let schema = schema(tree);
        let value = node(vec![node(vec![]), node(vec![node(vec![])])]);
        let body = apache_avro::to_avro_datum(&schema.avro, value.clone()).unwrap();
        assert!(schema.can_be_deep);
        assert_eq!(schema.read(&body), Ok(value));
        for length in 0..body.len() {
            assert_eq!(schema.read(&body[..length]), Err(Obstacle::Form), "{length}");
        }
        assert_eq!(schema.read(&[&body[..], &[0]].concat()), Err(Obstacle::Form));
    }

    #[test]
    fn a_block_that_says_its_size_is_read_and_one_without_bounds_refused() {
        let array = r#"{"type": "record", "name": "A", "fields": [
            {"name": "n", "type": {"type": "array", "items": "int"}},
            {"name": "a", "type": {"type": "array", "items": "A"}}]}"#;
        let array = schema(array);
        // Two items in a block of two bytes, one in a block without its size.
        let fields = |n: Vec<i32>| {
            let n = Value::Array(n.into_iter().map(Value::Int).collect());
            Value::Record(vec![("n".into(), n), ("a".into(), Value::Array(Vec::new()))])
        };
        assert_eq!(array.read(&[3, 4, 2, 4, 2, 6, 0, 0]), Ok(fields(vec![1, 2, 3])));
        let nulls = r#"{"type": "record", "name": "A", "fields": [
            {"name": "n", "type": {"type": "array", "items": "null"}},
            {"name": "a", "type": {"type": "array", "items": "A"}}]}"#;
        let most = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0, 0];
        assert_eq!(schema(nulls).read(&most), Err(Obstacle::Form));
    }
}
