//! The payload in a body: unpacked where the producer packed it, and read as JSON.
//!
//! A body is packed if its `content_encoding` says so: `gzip`, or `deflate` (a zlib stream, as RFC 9110 has it, or the
//! bare one that some send). kombu has a header of its own for it, `compression`. What lies in queues is never changed
//! by any of this: a task is moved with its body as it came.
//!
//! Bodies are not trusted: the unpacked text is bounded by [`LIMIT`], however small the body is.

use std::{
    borrow::Cow,
    io::{Read, Write},
};

use flate2::{
    Compression, Decompress, FlushDecompress, Status,
    bufread::MultiGzDecoder,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};

use crate::{
    limits,
    properties::Properties,
    task::{Headers, Task, json_payload},
    text::cut,
};

/// Longest body once unpacked, in bytes. No frame holds more.
pub const LIMIT: usize = limits::FRAME;

/// What is read at first; more is made room for as it comes.
const FIRST_ROOM: usize = 16 * 1024;

/// A body, with what tells how it is packed.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// As it came.
    pub bytes: &'a [u8],
    /// The message's properties, if it has any.
    pub properties: Option<&'a Properties>,
    /// The producer's headers.
    pub headers: &'a Headers,
}

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Zlib,
    /// RFC 1951, with nothing around it.
    Deflate,
}

/// What a producer says of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Plain,
    Gzip,
    Deflate,
}

/// Why a body was not unpacked.
enum Broken {
    TooLong,
    Short,
    Damaged(String),
}

impl<'a> From<&'a Task> for Body<'a> {
    fn from(task: &'a Task) -> Self {
        Self { bytes: &task.body, properties: task.properties.as_deref(), headers: &task.headers }
    }
}

impl<'a> Body<'a> {
    /// The JSON text in it; `unwrap` as in [`json_payload`].
    ///
    /// # Errors
    /// Why there is none.
    pub fn json(self, unwrap: bool) -> Result<Cow<'a, str>, String> {
        if self.said()? == Said::Plain {
            return json_payload(self.bytes, unwrap).map_err(|error| self.unknown_compression().unwrap_or(error));
        }
        let (bytes, _) = self.unpacked()?;
        let text = json_payload(&bytes, unwrap).map_err(|error| format!("unpacked, {error}"))?;
        Ok(Cow::Owned(text.into_owned()))
    }

    /// The body without its packing, and what that was.
    ///
    /// # Errors
    /// Why it cannot be unpacked.
    pub fn unpacked(self) -> Result<(Cow<'a, [u8]>, Option<Packing>), String> {
        let (unpacked, what) = match self.said()? {
            Said::Plain => return Ok((Cow::Borrowed(self.bytes), None)),
            Said::Gzip => (gunzip(self.bytes).map(|bytes| (bytes, Packing::Gzip)), "gzip"),
            Said::Deflate => (inflate_any(self.bytes), "deflate"),
        };
        match unpacked {
            Ok((bytes, packing)) => Ok((Cow::Owned(bytes), Some(packing))),
            Err(Broken::TooLong) => Err(format!("the body has more than {} MiB once unpacked ({what})", LIMIT >> 20)),
            Err(Broken::Short) => Err(format!("the body cannot be unpacked ({what}): it ends too early")),
            Err(Broken::Damaged(cause)) => Err(format!("the body cannot be unpacked ({what}): it is damaged: {cause}")),
        }
    }

    fn said(self) -> Result<Said, String> {
        let Some(word) = self.properties.and_then(|properties| properties.content_encoding.as_deref()) else {
            return Ok(self.said_by_header());
        };
        let known = word.trim().to_ascii_lowercase();
        match known.as_str() {
            "gzip" | "x-gzip" => Ok(Said::Gzip),
            "deflate" | "zlib" => Ok(Said::Deflate),
            _ if is_no_packing(&known) => Ok(self.said_by_header()),
            _ => Err(format!("content encoding {word:?} is not supported; gzip and deflate are")),
        }
    }

    /// kombu's own way: a header that names the algorithm. JSON text never begins as packed bodies do, so nobody else's
    /// header of this name does any harm.
    fn said_by_header(self) -> Said {
        match self.bytes {
            [0x1f, 0x8b, ..] if self.compression().is_some() => Said::Gzip,
            [first, second, ..] if is_zlib(*first, *second) && self.compression().is_some() => Said::Deflate,
            _ => Said::Plain,
        }
    }

    fn compression(self) -> Option<&'a str> {
        self.headers.get("compression")?.as_str().filter(|word| word.starts_with("application/"))
    }

    fn unknown_compression(self) -> Option<String> {
        let word = cut(self.compression()?, 64);
        Some(format!("compression {word:?} (a header of its producer) is not supported; gzip and deflate are"))
    }
}

/// What stands in `content_encoding` and names no packing: nothing, transfer encodings that change nothing, and character
/// sets, which libraries put there, of those that ASCII is a part of.
fn is_no_packing(word: &str) -> bool {
    matches!(word, "" | "identity" | "binary" | "8bit" | "7bit" | "utf-8" | "utf8" | "us-ascii" | "ascii")
        || ["iso-8859-", "iso8859-", "latin", "windows-125", "cp125"].iter().any(|set| word.starts_with(set))
}

/// Whether a zlib stream can begin so.
fn is_zlib(first: u8, second: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7 && (u16::from(first) << 8 | u16::from(second)).is_multiple_of(31)
}

impl Packing {
    /// Packs a body.
    #[must_use]
    pub fn pack(self, body: &[u8]) -> Vec<u8> {
        let level = Compression::default();
        let packed = match self {
            Self::Gzip => packed(GzEncoder::new(Vec::new(), level), body, GzEncoder::finish),
            Self::Zlib => packed(ZlibEncoder::new(Vec::new(), level), body, ZlibEncoder::finish),
            Self::Deflate => packed(DeflateEncoder::new(Vec::new(), level), body, DeflateEncoder::finish),
        };
        packed.expect("packing into memory does not fail")
    }
}

fn packed<W: Write>(
    mut encoder: W,
    body: &[u8],
    finish: impl FnOnce(W) -> std::io::Result<Vec<u8>>,
) -> std::io::Result<Vec<u8>> {
    encoder.write_all(body)?;
    finish(encoder)
}

fn gunzip(packed: &[u8]) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::new();
    match MultiGzDecoder::new(packed).take(LIMIT as u64 + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() > LIMIT => Err(Broken::TooLong),
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Broken::Short),
        Err(error) => Err(Broken::Damaged(error.to_string())),
    }
}

fn inflate_any(packed: &[u8]) -> Result<(Vec<u8>, Packing), Broken> {
    let bare = || inflate(packed, false).map(|bytes| (bytes, Packing::Deflate));
    let [first, second, ..] = *packed else { return bare() };
    if !is_zlib(first, second) {
        return bare();
    }
    match inflate(packed, true) {
        Ok(bytes) => Ok((bytes, Packing::Zlib)),
        Err(Broken::TooLong) => Err(Broken::TooLong),
        // A bare stream may begin as one of zlib does.
        Err(broken) => bare().map_err(|_| broken),
    }
}

/// Unpacks one stream, which must be all that there is.
fn inflate(packed: &[u8], has_header: bool) -> Result<Vec<u8>, Broken> {
    let mut state = Decompress::new(has_header);
    let mut bytes = Vec::new();
    loop {
        let (read, written) = (state.total_in(), bytes.len());
        if written == bytes.capacity() {
            // One byte more than is allowed tells that it is too much.
            bytes.reserve_exact(written.max(FIRST_ROOM).min(LIMIT + 1 - written));
        }
        let rest = &packed[read as usize..];
        let status = state.decompress_vec(rest, &mut bytes, FlushDecompress::None);
        if bytes.len() > LIMIT {
            return Err(Broken::TooLong);
        }
        match status {
            Ok(Status::StreamEnd) if state.total_in() == packed.len() as u64 => return Ok(bytes),
            Ok(Status::StreamEnd) => return Err(Broken::Damaged("more follows its end".to_owned())),
            Ok(_) if state.total_in() == read && bytes.len() == written => return Err(Broken::Short),
            Ok(_) => {}
            Err(error) => return Err(Broken::Damaged(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"n":1e400,"s":"ä"}"#;

    fn said(word: &str) -> Properties {
        Properties { content_encoding: Some(word.to_owned()), ..Properties::default() }
    }

    fn read(bytes: &[u8], word: &str) -> Result<String, String> {
        let (properties, headers) = (said(word), Headers::new());
        Body { bytes, properties: Some(&properties), headers: &headers }.json(true).map(Cow::into_owned)
    }

    #[test]
    fn what_is_packed_is_unpacked_and_packed_again_in_the_same_way() {
        for (packing, words) in [
            (Packing::Gzip, ["gzip", " GZIP ", "x-gzip"]),
            (Packing::Zlib, ["deflate", "Deflate", "zlib"]),
            (Packing::Deflate, ["deflate", "DEFLATE", "zlib"]),
        ] {
            let packed = packing.pack(TEXT.as_bytes());
            for word in words {
                assert_eq!(read(&packed, word).as_deref(), Ok(TEXT), "{packing:?} {word}");
                let (properties, headers) = (said(word), Headers::new());
                let body = Body { bytes: &packed, properties: Some(&properties), headers: &headers };
                assert_eq!(body.unpacked().unwrap(), (Cow::Borrowed(TEXT.as_bytes()), Some(packing)));
            }
        }
        let twice = [Packing::Gzip.pack(b"[1,"), Packing::Gzip.pack(b"2]")].concat();
        assert_eq!(read(&twice, "gzip").as_deref(), Ok("[1,2]"));
        assert_eq!(read(&Packing::Gzip.pack(br#""{\"a\":1}""#), "gzip").as_deref(), Ok(r#"{"a":1}"#));
        assert_eq!(read(&Packing::Zlib.pack("[1]\n".as_bytes()), "deflate").as_deref(), Ok("[1]"));
    }

    #[test]
    fn what_names_no_packing_is_passed() {
        for word in ["", "utf-8", "UTF-8", "binary", "identity", "8bit", "us-ascii", "ISO-8859-1"] {
            assert_eq!(read(TEXT.as_bytes(), word).as_deref(), Ok(TEXT), "{word}");
        }
        let headers = Headers::new();
        assert_eq!(Body { bytes: b"1", properties: None, headers: &headers }.json(true).as_deref(), Ok("1"));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for word in ["br", "zstd", "utf-16", "gzip, br", "base64"] {
            let error = read(TEXT.as_bytes(), word).unwrap_err();
            assert_eq!(error, format!("content encoding \"{word}\" is not supported; gzip and deflate are"));
        }
        assert!(!read(b"1", "b\nr\u{1b}").unwrap_err().contains(char::is_control));
    }

    #[test]
    fn what_is_damaged_is_told() {
        for (packing, word) in [(Packing::Gzip, "gzip"), (Packing::Zlib, "deflate"), (Packing::Deflate, "deflate")] {
            let packed = packing.pack(TEXT.as_bytes());
            for length in 0..packed.len() {
                let error = read(&packed[..length], word).unwrap_err();
                assert!(error.starts_with(&format!("the body cannot be unpacked ({word}): it ")), "{error}");
            }
            assert!(read(&packed[..packed.len() - 1], word).unwrap_err().contains("ends too early"), "{packing:?}");
            assert!(read(&[&packed[..], b"x"].concat(), word).is_err(), "{packing:?}");
            let mut flipped = packed.clone();
            // In the checksum, or where the text is.
            let at = flipped.len() - 6;
            flipped[at] ^= 0x55;
            assert!(read(&flipped, word).is_err() || packing == Packing::Deflate, "{packing:?}");
        }
        assert!(read(TEXT.as_bytes(), "gzip").unwrap_err().contains("damaged"));
        assert!(read(TEXT.as_bytes(), "deflate").is_err());
        assert!(read(&Packing::Gzip.pack(b"{oops"), "gzip").unwrap_err().starts_with("unpacked, the body is not JSON"));
        assert!(read(&Packing::Gzip.pack(b"\xff"), "gzip").unwrap_err().starts_with("unpacked, the body is not UTF-8"));
    }

    #[test]
    fn a_body_of_the_limit_is_unpacked_and_one_more_byte_is_too_much() {
        let fits = format!("\"{}\"", "x".repeat(LIMIT - 2));
        let over = format!("{fits} ");
        for (packing, word) in [(Packing::Gzip, "gzip"), (Packing::Zlib, "deflate"), (Packing::Deflate, "deflate")] {
            assert_eq!(read(&packing.pack(fits.as_bytes()), word).unwrap().len(), LIMIT, "{packing:?}");
            let error = read(&packing.pack(over.as_bytes()), word).unwrap_err();
            assert_eq!(error, format!("the body has more than 16 MiB once unpacked ({word})"));
        }
    }

    #[test]
    fn kombus_header_counts_for_bodies_that_are_packed() {
        let headers = |word: &str| Headers::from_iter([("compression".to_owned(), word.into())]);
        let read = |bytes: &[u8], word: &str| {
            let (properties, headers) = (said("utf-8"), headers(word));
            Body { bytes, properties: Some(&properties), headers: &headers }.json(true).map(Cow::into_owned)
        };
        for packing in [Packing::Zlib, Packing::Gzip] {
            assert_eq!(read(&packing.pack(TEXT.as_bytes()), "application/x-gzip").as_deref(), Ok(TEXT));
        }
        assert_eq!(read(TEXT.as_bytes(), "application/x-gzip").as_deref(), Ok(TEXT));
        assert_eq!(read(TEXT.as_bytes(), "application/x-bz2").as_deref(), Ok(TEXT));
        assert!(read(b"BZh91AY", "application/x-bz2").unwrap_err().contains("\"application/x-bz2\""));
    }
}
