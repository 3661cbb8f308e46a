//! JSON as it is hashed: read with every digit of its numbers, which `serde_json` rounds, and written
//! in one form. What the form is, is documented at [`Content`](super::Content).

use std::borrow::Cow;
use std::collections::BTreeMap;

/// As deep as `serde_json` reads.
const MAX_DEPTH: u32 = 128;
/// Digits of an exponent: far past any number's, and far from an overflow.
const MAX_EXPONENT: usize = 15;

/// A JSON value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// In the form that is hashed.
    Number(String),
    Text(Cow<'a, str>),
    Array(Vec<Self>),
    Object(BTreeMap<Cow<'a, str>, Self>),
}

impl<'a> Json<'a> {
    /// Reads a whole payload; or says why it has no single content.
    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(payload).map_err(|_| "it is not UTF-8")?;
        let mut reader = Reader { text, at: 0, depth: 0 };
        let value = reader.value()?;
        reader.space();
        if reader.at == text.len() { Ok(value) } else { Err(NOT_JSON) }
    }

    /// The value at a path of field names, divided by dots.
    pub(super) fn get(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |value, name| match value {
            Json::Object(fields) => fields.get(name),
            _ => None,
        })
    }

    /// Takes the field at a path out.
    pub(super) fn remove(&mut self, path: &str) {
        let Json::Object(fields) = self else { return };
        match path.split_once('.') {
            None => {
                fields.remove(path);
            }
            Some((name, rest)) => {
                if let Some(value) = fields.get_mut(name) {
                    value.remove(rest);
                }
            }
        }
    }

    pub(super) fn is_empty_object(&self) -> bool {
        matches!(self, Json::Object(fields) if fields.is_empty())
    }

    /// Appends the form that is hashed.
    pub(super) fn write(&self, form: &mut Vec<u8>) {
        match self {
            Json::Null => form.push(b'n'),
            Json::Bool(true) => form.push(b't'),
            Json::Bool(false) => form.push(b'f'),
            Json::Number(number) => {
                form.push(b'#');
                form.extend_from_slice(number.as_bytes());
                form.push(b';');
            }
            Json::Text(text) => write_text(text, form),
            Json::Array(items) => {
                form.push(b'[');
                items.iter().for_each(|item| item.write(form));
                form.push(b']');
            }
            Json::Object(fields) => {
                form.push(b'{');
                for (name, value) in fields {
                    write_text(name, form);
                    value.write(form);
                }
                form.push(b'}');
            }
        }
    }
}

/// Appends a string.
pub(super) fn write_text(text: &str, form: &mut Vec<u8>) {
    form.extend_from_slice(text.len().to_string().as_bytes());
    form.push(b':');
    form.extend_from_slice(text.as_bytes());
}

const NOT_JSON: &str = "it is not JSON";

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), &'static str> {
        if self.eat(byte) { Ok(()) } else { Err(NOT_JSON) }
    }

    fn value(&mut self) -> Result<Json<'a>, &'static str> {
        self.space();
        match self.peek().ok_or(NOT_JSON)? {
            b'n' => self.word("null", Json::Null),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'"' => self.string().map(Json::Text),
            b'[' => self.nested(Self::array),
            b'{' => self.nested(Self::object),
            _ => self.number().map(Json::Number),
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>, &'static str> {
        if !self.text[self.at..].starts_with(word) {
            return Err(NOT_JSON);
        }
        self.at += word.len();
        Ok(value)
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Json<'a>, &'static str>,
    ) -> Result<Json<'a>, &'static str> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("it is nested deeper than 128");
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn array(&mut self) -> Result<Json<'a>, &'static str> {
        let mut items = Vec::new();
        self.space();
        if self.eat(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            if self.eat(b']') {
                return Ok(Json::Array(items));
            }
            self.expect(b',')?;
        }
    }

    fn object(&mut self) -> Result<Json<'a>, &'static str> {
        let mut fields = BTreeMap::new();
        self.space();
        if self.eat(b'}') {
            return Ok(Json::Object(fields));
        }
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            self.expect(b':')?;
            let value = self.value()?;
            if fields.insert(name, value).is_some() {
                return Err("an object has a field twice");
            }
            self.space();
            if self.eat(b'}') {
                return Ok(Json::Object(fields));
            }
            self.expect(b',')?;
        }
    }

    /// A string: borrowed as long as it has no escape.
    fn string(&mut self) -> Result<Cow<'a, str>, &'static str> {
        self.expect(b'"')?;
        let mut owned: Option<String> = None;
        loop {
            let rest = &self.text[self.at..];
            let end = rest.find(|it| matches!(it, '"' | '\\' | '\0'..='\x1f')).ok_or(NOT_JSON)?;
            let plain = &rest[..end];
            self.at += end;
            if self.eat(b'"') {
                return Ok(match owned {
                    None => plain.into(),
                    Some(text) => (text + plain).into(),
                });
            }
            let text = owned.get_or_insert_default();
            text.push_str(plain);
            self.expect(b'\\')?;
            text.push(self.escape()?);
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, &'static str> {
        const HALF: &str = "a string has half a surrogate pair";
        let letter = self.peek().ok_or(NOT_JSON)?;
        self.at += 1;
        Ok(match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                let mut units = vec![first];
                if (0xd800..0xdc00).contains(&first) {
                    if !(self.eat(b'\\') && self.eat(b'u')) {
                        return Err(HALF);
                    }
                    units.push(self.unit()?);
                }
                let mut chars = char::decode_utf16(units);
                match (chars.next(), chars.next()) {
                    (Some(Ok(letter)), None) => letter,
                    _ => return Err(HALF),
                }
            }
            _ => return Err(NOT_JSON),
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u16, &'static str> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(NOT_JSON)?;
        let unit = digits.iter().try_fold(0, |unit, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(unit << 4 | digit)
        });
        self.at += 4;
        u16::try_from(unit.ok_or(NOT_JSON)?).map_err(|_| NOT_JSON)
    }

    /// A number, in the form that is hashed.
    fn number(&mut self) -> Result<String, &'static str> {
        let negative = self.eat(b'-');
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(NOT_JSON);
        }
        let part = if self.eat(b'.') { self.digits()? } else { "" };
        let mut exponent = 0;
        if self.eat(b'e') || self.eat(b'E') {
            let minus = self.eat(b'-');
            if !minus {
                self.eat(b'+');
            }
            let digits = self.digits()?.trim_start_matches('0');
            if digits.len() > MAX_EXPONENT {
                return Err("a number has an exponent of more than 15 digits");
            }
            exponent = digits.bytes().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
            exponent = if minus { -exponent } else { exponent };
        }
        let all = format!("{whole}{part}");
        let digits = all.trim_end_matches('0');
        // Of a payload in memory, so far below the largest.
        exponent += (all.len() - digits.len()) as i64 - part.len() as i64;
        let digits = digits.trim_start_matches('0');
        Ok(match digits {
            "" => "0".to_owned(),
            _ => format!("{}{digits}e{exponent}", if negative { "-" } else { "" }),
        })
    }

    fn digits(&mut self) -> Result<&'a str, &'static str> {
        let rest = &self.text[self.at..];
        let end = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
        self.at += end;
        if end == 0 { Err(NOT_JSON) } else { Ok(&rest[..end]) }
    }
}
