//! Reads values of Avro from bytes that nobody vouches for.
//!
//! apache-avro has a reader of its own, which believes them: it makes room for as many items as a block
//! says it has, before it reads one, so that five bytes ask for gigabytes; and it reads a value within a
//! value by calling itself, as deep as they say. Either ends the process, and does so again when the
//! event is delivered again. Here the bytes themselves are the bound:
//!
//! - a length is compared with the bytes that are left before there is room for what it is of;
//! - there is room for an item when it is read, and an item has at least a byte. Those that have none
//!   (`null`, a record of nulls, a `fixed` of no size) are counted, see [`MOST_EMPTY`];
//! - no value is deeper than [`MOST_DEEP`].
//!
//! Not here: what a schema is, which is apache-avro's business, and what serde makes of a value
//! (`avro_value.rs`).

use std::collections::HashMap;

use apache_avro::schema::{NamesRef, Namespace, ResolvedSchema};
use apache_avro::types::Value;
use apache_avro::{Decimal, Duration, Schema as Avro, Uuid};

use crate::format::Schema;

/// How many records, arrays and maps a value can be inside of: more than people nest, and far less than
/// what overflows the stack of a thread.
pub(super) const MOST_DEEP: usize = 128;

/// How many values that take no bytes a payload can have, beside one for each of its bytes: a list of
/// records with a `null` in each is read, and a count of billions that stands for nothing is not.
pub(super) const MOST_EMPTY: usize = 64 << 10;

/// Why a payload cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It is nested too deep.
    Depth,
    /// It has too many values of no bytes.
    Empty,
    /// It is not of its schema.
    Form,
}

impl Schema {
    /// Reads one value, which is all of the bytes.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Value, Obstacle> {
        let all = self.references.iter().chain([&self.avro]).collect::<Vec<_>>();
        let resolved = ResolvedSchema::try_from(all).map_err(|_| Obstacle::Form)?;
        let empty = MOST_EMPTY.saturating_add(bytes.len());
        let mut reader = Reader { names: resolved.get_names(), bytes, empty };
        let value = reader.value(&self.avro, &None, 0)?;
        Some(value).filter(|_| reader.bytes.is_empty()).ok_or(Obstacle::Form)
    }
}

/// A payload that is being read.
struct Reader<'a> {
    names: &'a NamesRef<'a>,
    /// Those that are left.
    bytes: &'a [u8],
    /// How many values of no bytes it can still have.
    empty: usize,
}

impl<'a> Reader<'a> {
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
                    let key = reader.text()?;
                    entries.insert(key, reader.value(&map.types, within, depth + 1)?);
                    Ok(())
                })?;
                Ok(Value::Map(entries))
            }
            Avro::Union(union) => {
                let index = u32::try_from(self.long()?).map_err(|_| Obstacle::Form)?;
                let variant = usize::try_from(index).ok().and_then(|it| union.variants().get(it));
                let value = self.value(variant.ok_or(Obstacle::Form)?, within, depth)?;
                Ok(Value::Union(index, Box::new(value)))
            }
            Avro::Record(record) => {
                if record.fields.is_empty() {
                    self.empty()?;
                }
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
        Ok(match schema {
            Avro::Null => {
                self.empty()?;
                Value::Null
            }
            Avro::Boolean => match self.take::<1>()? {
                [0] => Value::Boolean(false),
                [1] => Value::Boolean(true),
                _ => return Err(Obstacle::Form),
            },
            Avro::Int => Value::Int(self.int()?),
            Avro::Date => Value::Date(self.int()?),
            Avro::TimeMillis => Value::TimeMillis(self.int()?),
            Avro::Long => Value::Long(self.long()?),
            Avro::TimeMicros => Value::TimeMicros(self.long()?),
            Avro::TimestampMillis => Value::TimestampMillis(self.long()?),
            Avro::TimestampMicros => Value::TimestampMicros(self.long()?),
            Avro::TimestampNanos => Value::TimestampNanos(self.long()?),
            Avro::LocalTimestampMillis => Value::LocalTimestampMillis(self.long()?),
            Avro::LocalTimestampMicros => Value::LocalTimestampMicros(self.long()?),
            Avro::LocalTimestampNanos => Value::LocalTimestampNanos(self.long()?),
            Avro::Float => Value::Float(f32::from_le_bytes(self.take()?)),
            Avro::Double => Value::Double(f64::from_le_bytes(self.take()?)),
            Avro::Duration => Value::Duration(Duration::from(self.take::<12>()?)),
            Avro::Bytes => Value::Bytes(self.sized()?.to_vec()),
            Avro::String => Value::String(self.text()?),
            Avro::Uuid => Value::Uuid(uuid(self.sized()?).ok_or(Obstacle::Form)?),
            Avro::Fixed(fixed) => Value::Fixed(fixed.size, self.fixed(fixed.size)?),
            Avro::Enum(symbols) => {
                let index = u32::try_from(self.int()?).map_err(|_| Obstacle::Form)?;
                let symbol = usize::try_from(index).ok().and_then(|it| symbols.symbols.get(it));
                Value::Enum(index, symbol.ok_or(Obstacle::Form)?.clone())
            }
            Avro::Decimal(decimal) => Value::Decimal(match &*decimal.inner {
                Avro::Bytes => Decimal::from(self.sized()?),
                Avro::Fixed(fixed) => Decimal::from(self.fixed(fixed.size)?),
                _ => return Err(Obstacle::Form),
            }),
            Avro::BigDecimal => self.big_decimal()?,
            Avro::Array(_) | Avro::Map(_) | Avro::Union(_) | Avro::Record(_) | Avro::Ref { .. } => {
                return Err(Obstacle::Form);
            }
        })
    }

    /// The items of an array or a map, which come in blocks.
    fn blocks(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Obstacle>,
    ) -> Result<(), Obstacle> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The block's size in bytes, for those who pass over it.
                self.long()?;
            }
            // Nothing is made for the count: items take bytes, or are counted.
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    /// A number without a scale of its own, which apache-avro alone can make: once the length within it
    /// is known to be true.
    fn big_decimal(&mut self) -> Result<Value, Obstacle> {
        let all = self.bytes;
        let mut inside = Reader { names: self.names, bytes: self.sized()?, empty: 0 };
        inside.sized()?;
        let mut number = &all[..all.len() - self.bytes.len()];
        apache_avro::from_avro_datum(&Avro::BigDecimal, &mut number, None)
            .map_err(|_| Obstacle::Form)
    }

    fn text(&mut self) -> Result<String, Obstacle> {
        std::str::from_utf8(self.sized()?).map(str::to_owned).map_err(|_| Obstacle::Form)
    }

    fn fixed(&mut self, size: usize) -> Result<Vec<u8>, Obstacle> {
        if size == 0 {
            self.empty()?;
        }
        Ok(self.next(size)?.to_vec())
    }

    /// Bytes that say how many they are.
    fn sized(&mut self) -> Result<&'a [u8], Obstacle> {
        let length = usize::try_from(self.long()?).map_err(|_| Obstacle::Form)?;
        self.next(length)
    }

    fn int(&mut self) -> Result<i32, Obstacle> {
        i32::try_from(self.long()?).map_err(|_| Obstacle::Form)
    }

    /// A number of as many bytes as it needs, seven bits in each, the lowest first.
    fn long(&mut self) -> Result<i64, Obstacle> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.take()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // Zigzag: the lowest bit is the sign.
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err(Obstacle::Form)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Obstacle> {
        let (taken, left) = self.bytes.split_first_chunk().ok_or(Obstacle::Form)?;
        self.bytes = left;
        Ok(*taken)
    }

    fn next(&mut self, length: usize) -> Result<&'a [u8], Obstacle> {
        let (taken, left) = self.bytes.split_at_checked(length).ok_or(Obstacle::Form)?;
        self.bytes = left;
        Ok(taken)
    }

    /// Counts a value of no bytes.
    fn empty(&mut self) -> Result<(), Obstacle> {
        self.empty = self.empty.checked_sub(1).ok_or(Obstacle::Empty)?;
        Ok(())
    }
}

/// As text, or as its own 16 bytes.
fn uuid(bytes: &[u8]) -> Option<Uuid> {
    match bytes.len() {
        16 => Uuid::from_slice(bytes).ok(),
        _ => Uuid::try_parse(std::str::from_utf8(bytes).ok()?).ok(),
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
        assert_eq!(schema(nulls).read(&most), Err(Obstacle::Empty));
    }
}
