//! The protocol of Redis, RESP 3, without I/O.
//!
//! What a server says is read from the bytes that are there: either all of a value is, or more is needed. Only what
//! servers send is understood: no streamed strings and aggregates, which none does.

use bytes::Bytes;

/// The longest string that is read. A message may have 1 MiB, a field of ours far less.
const BLOB_MAX: usize = 16 * 1024 * 1024;
/// The most elements of an aggregate.
const ELEMENTS_MAX: usize = 1024 * 1024;
/// How deep aggregates may lie in each other. `CLUSTER SLOTS` has four.
const DEPTH_MAX: usize = 8;
/// The longest line of a length, a number, a simple string or an error.
const LINE_MAX: usize = 64 * 1024;

/// A value, where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    /// Text of any kind, and numbers that are no integers.
    Text(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    Null,
    /// An array, a set, or a map as its keys and values in turn.
    List(Vec<Value<'a>>),
    /// Said without having been asked.
    Push(Vec<Value<'a>>),
}

/// What is not RESP 3, or is too much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server does not speak RESP 3: {0}")]
pub(crate) struct Malformed(&'static str);

/// An answer that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(Bytes),
    Error(String),
    Integer(i64),
    Null,
    List(Vec<Reply>),
}

/// Commands as they are sent.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Command(Vec<u8>);

impl Command {
    /// A command of so many words, the name included.
    pub(crate) fn new(name: &str, words: usize) -> Self {
        let mut command = Self::default();
        command.begin(name, words);
        command
    }

    /// Begins another command behind what is there.
    pub(crate) fn begin(&mut self, name: &str, words: usize) {
        self.length(b'*', words);
        self.word(name.as_bytes());
    }

    /// The next word.
    pub(crate) fn word(&mut self, word: &[u8]) {
        self.length(b'$', word.len());
        self.0.extend_from_slice(word);
        self.0.extend_from_slice(b"\r\n");
    }

    /// The next word, of two parts.
    pub(crate) fn word_of(&mut self, first: &[u8], second: &[u8]) {
        self.length(b'$', first.len() + second.len());
        self.0.extend_from_slice(first);
        self.0.extend_from_slice(second);
        self.0.extend_from_slice(b"\r\n");
    }

    fn length(&mut self, kind: u8, length: usize) {
        self.0.push(kind);
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = length;
        while rest > 0 || at == digits.len() {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.0.extend_from_slice(&digits[at..]);
        self.0.extend_from_slice(b"\r\n");
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts another one behind.
    pub(crate) fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Value<'_> {
    pub(crate) fn to_reply(&self) -> Reply {
        match self {
            Self::Text(text) => Reply::Text(Bytes::copy_from_slice(text)),
            Self::Error(text) => Reply::Error(String::from_utf8_lossy(text).into_owned()),
            Self::Integer(number) => Reply::Integer(*number),
            Self::Null => Reply::Null,
            Self::List(values) | Self::Push(values) => {
                Reply::List(values.iter().map(Self::to_reply).collect())
            }
        }
    }
}

/// Reads the first value of `bytes`, and says how long it is; `None` if there is not all of it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Value<'_>, usize)>, Malformed> {
    let mut cursor = Cursor { bytes, at: 0 };
    Ok(cursor.value(0)?.map(|value| (value, cursor.at)))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn value(&mut self, depth: usize) -> Result<Option<Value<'a>>, Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed("values lie too deep in each other"));
        }
        let Some(line) = self.line()? else { return Ok(None) };
        let Some((kind, line)) = line.split_first() else { return Err(Malformed("an empty line")) };
        Ok(Some(match kind {
            b'+' | b',' | b'(' => Value::Text(line),
            b'-' => Value::Error(line),
            b':' => Value::Integer(number(line)?),
            b'_' if line.is_empty() => Value::Null,
            b'#' => match line {
                b"t" => Value::Integer(1),
                b"f" => Value::Integer(0),
                _ => return Err(Malformed("a truth that is none")),
            },
            b'$' | b'=' | b'!' => {
                let Some(length) = length(line, BLOB_MAX)? else { return Ok(Some(Value::Null)) };
                let Some(blob) = self.blob(length)? else { return Ok(None) };
                match kind {
                    b'!' => Value::Error(blob),
                    // Three characters and a colon say what kind of text it is.
                    b'=' => Value::Text(blob.get(4..).ok_or(Malformed("a text without its kind"))?),
                    _ => Value::Text(blob),
                }
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let Some(length) = length(line, ELEMENTS_MAX)? else { return Ok(Some(Value::Null)) };
                let count = if matches!(kind, b'%' | b'|') { 2 * length } else { length };
                let Some(values) = self.values(count, depth)? else { return Ok(None) };
                match kind {
                    b'>' => Value::Push(values),
                    // Remarks about the value that follows: nobody needs them.
                    b'|' => return self.value(depth + 1),
                    _ => Value::List(values),
                }
            }
            _ => return Err(Malformed("a value of an unknown kind")),
        }))
    }

    fn values(&mut self, count: usize, depth: usize) -> Result<Option<Vec<Value<'a>>>, Malformed> {
        // A value has three bytes at least: what is not there yet takes no memory.
        if (self.bytes.len() - self.at) / 3 < count {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            match self.value(depth + 1)? {
                Some(value) => values.push(value),
                None => return Ok(None),
            }
        }
        Ok(Some(values))
    }

    /// The rest of a line, without its end.
    fn line(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().take(LINE_MAX).position(|byte| *byte == b'\r') else {
            return if rest.len() < LINE_MAX { Ok(None) } else { Err(Malformed("a line without an end")) };
        };
        match rest.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => {
                self.at += end + 2;
                Ok(Some(&rest[..end]))
            }
            Some(_) => Err(Malformed("a line that does not end as lines do")),
        }
    }

    fn blob(&mut self, length: usize) -> Result<Option<&'a [u8]>, Malformed> {
        let rest = &self.bytes[self.at..];
        let Some((blob, after)) = rest.split_at_checked(length) else { return Ok(None) };
        match after {
            [b'\r', b'\n', ..] => {
                self.at += length + 2;
                Ok(Some(blob))
            }
            [] | [b'\r'] => Ok(None),
            _ => Err(Malformed("a string that is longer than it says")),
        }
    }
}

fn number(digits: &[u8]) -> Result<i64, Malformed> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Malformed("a number that is none"))
}

/// A length; `None` for the nothing of RESP 2, which has a length of -1.
fn length(digits: &[u8], max: usize) -> Result<Option<usize>, Malformed> {
    match number(digits)? {
        -1 => Ok(None),
        number => match usize::try_from(number) {
            Ok(length) if length <= max => Ok(Some(length)),
            _ => Err(Malformed("a length that cannot be")),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &Value<'_>) {
        assert_eq!(parse(bytes), Ok(Some((expected.clone(), bytes.len()))));
        // Whatever comes behind it is not looked at, and whatever is missing is waited for.
        let longer = [bytes, b"?"].concat();
        assert_eq!(parse(&longer), Ok(Some((expected.clone(), bytes.len()))));
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{:?}", String::from_utf8_lossy(&bytes[..end]));
        }
    }

    #[test]
    fn values_of_all_kinds_are_read() {
        use Value::*;
        check(b"+OK\r\n", &Text(b"OK"));
        check(b"-MOVED 1 a:2\r\n", &Error(b"MOVED 1 a:2"));
        check(b":-12\r\n", &Integer(-12));
        check(b"_\r\n", &Null);
        check(b"$-1\r\n", &Null);
        check(b"*-1\r\n", &Null);
        check(b"#t\r\n", &Integer(1));
        check(b",1.5\r\n", &Text(b"1.5"));
        check(b"$0\r\n\r\n", &Text(b""));
        check(b"$4\r\na\r\nb\r\n", &Text(b"a\r\nb"));
        check(b"=7\r\ntxt:abc\r\n", &Text(b"abc"));
        check(b"!3\r\nERR\r\n", &Error(b"ERR"));
        check(b"*0\r\n", &List(vec![]));
        check(b"*2\r\n:1\r\n*1\r\n+a\r\n", &List(vec![Integer(1), List(vec![Text(b"a")])]));
        check(b"%1\r\n+a\r\n:1\r\n", &List(vec![Text(b"a"), Integer(1)]));
        check(b"~1\r\n:1\r\n", &List(vec![Integer(1)]));
        check(b">2\r\n+a\r\n$1\r\nb\r\n", &Push(vec![Text(b"a"), Text(b"b")]));
        check(b"|1\r\n+ttl\r\n:1\r\n+OK\r\n", &Text(b"OK"));
    }

    #[test]
    fn what_cannot_be_is_refused_before_it_costs_anything() {
        let deep = b"*1\r\n".repeat(20);
        let long = vec![b'+'; LINE_MAX + 1];
        for wrong in [
            &b"hello\r\n"[..],
            b"\r\n",
            b"+a\rb",
            b":x\r\n",
            b"$-2\r\n",
            b"$99999999999999999999\r\n",
            b"$2\r\nabc\r\n",
            b"*1048577\r\n",
            b"$16777217\r\n",
            b"=2\r\nab\r\n",
            b"#x\r\n",
            &deep,
            &long,
        ] {
            assert!(parse(wrong).is_err(), "{:?}", String::from_utf8_lossy(&wrong[..wrong.len().min(40)]));
        }
        assert_eq!(parse(b"*1048576\r\n+a\r\n"), Ok(None));
    }

    #[test]
    fn commands_are_arrays_of_strings() {
        let mut command = Command::new("SPUBLISH", 3);
        command.word_of(b"t:", b"\x00\r");
        command.word(b"");
        command.begin("PING", 1);
        assert_eq!(
            command.as_bytes(),
            b"*3\r\n$8\r\nSPUBLISH\r\n$4\r\nt:\x00\r\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n"
        );
    }

    proptest! {
        #[test]
        fn commands_are_read_back_as_they_were(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5)) {
            let mut command = Command::new("X", words.len() + 1);
            words.iter().for_each(|word| command.word(word));
            let mut expected = vec![Value::Text(b"X")];
            expected.extend(words.iter().map(|word| Value::Text(word)));
            prop_assert_eq!(parse(command.as_bytes()), Ok(Some((Value::List(expected), command.len()))));
        }

        #[test]
        fn whatever_comes_it_is_read_or_refused(bytes in prop::collection::vec(prop::sample::select(b"+-:$*>%|~_#=!,(\r\n0123456789ab".to_vec()), 0..60)) {
            if let Ok(Some((_, length))) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
