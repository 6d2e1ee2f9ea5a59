//! A body by its type: JSON, form, XML and plain text are read, anything else is kept as it is.

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use tidemill_types::limits::WEBHOOK_DEPTH_MAX;

use super::{Headers, NO_DATA, WebhookError, form, to_json, xml};

/// What a body holds.
pub(super) enum Content {
    /// JSON, whatever it was before.
    Data(Bytes),
    /// Bytes of a kind that is not read.
    Attachment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Form,
    Xml,
    Text,
    Other,
}

pub(super) fn read(headers: &Headers, body: &Bytes) -> Result<Content, WebhookError> {
    let content_type = headers.get("content-type").map(str::trim);
    let content_type = content_type
        .filter(|text| !text.is_empty())
        .ok_or(WebhookError::NoType)?;
    let (kind, charset) = kind_of(content_type)?;
    if kind == Kind::Other {
        return Ok(Content::Attachment);
    }
    check_encoding(headers.get("content-encoding"), charset)?;
    let text = std::str::from_utf8(body)
        .map_err(|error| WebhookError::Bad(format!("the body is not UTF-8: {error}")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(Content::Data(match kind {
        Kind::Json if text.trim().is_empty() => Bytes::from_static(NO_DATA),
        Kind::Json => {
            check_json(text)
                .map_err(|error| WebhookError::Bad(format!("the body is not JSON: {error}")))?;
            // As it came: no number loses digits on the way.
            part_of(body, text.trim_ascii())
        }
        Kind::Text if check_json(text).is_ok() => part_of(body, text.trim_ascii()),
        Kind::Text => to_json(&Value::from(text)),
        Kind::Form => to_json(&form::parse(text, "body")?),
        Kind::Xml => to_json(&xml::parse(text)?),
        Kind::Other => return Ok(Content::Attachment),
    }))
}

/// The bytes of a part of a body that is a text, without a copy.
fn part_of(body: &Bytes, part: &str) -> Bytes {
    body.slice_ref(part.as_bytes())
}

fn kind_of(content_type: &str) -> Result<(Kind, Option<&str>), WebhookError> {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let unsupported = || {
        let reason = "Content-Type is not of the form `type/subtype`, such as `application/json`";
        WebhookError::UnsupportedType(reason.into())
    };
    let (family, subtype) = essence.split_once('/').ok_or_else(unsupported)?;
    if family.is_empty() || subtype.is_empty() {
        return Err(unsupported());
    }
    let charset = parts.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        is_charset.then(|| value.trim().trim_matches('"'))
    });
    let kind = match (family, subtype) {
        ("application" | "text", "json") => Kind::Json,
        ("application" | "text", "xml") => Kind::Xml,
        ("application", "x-www-form-urlencoded") => Kind::Form,
        ("text", "plain") => Kind::Text,
        ("application", _) if subtype.ends_with("+json") => Kind::Json,
        ("application", _) if subtype.ends_with("+xml") => Kind::Xml,
        _ => Kind::Other,
    };
    Ok((kind, charset))
}

fn check_encoding(encoding: Option<&str>, charset: Option<&str>) -> Result<(), WebhookError> {
    // A signature is over the bytes as they came, and a few packed bytes may unpack to gigabytes.
    if let Some(encoding) = encoding
        && !encoding.trim().is_empty()
        && !encoding.trim().eq_ignore_ascii_case("identity")
    {
        let reason = "Content-Encoding: only `identity` is supported for a body that is parsed";
        return Err(WebhookError::UnsupportedType(reason.into()));
    }
    let known = ["utf-8", "utf8", "us-ascii", "ascii"];
    if let Some(charset) = charset
        && !known
            .iter()
            .any(|known| charset.eq_ignore_ascii_case(known))
    {
        let reason = "charset: only `utf-8` is supported for a body that is parsed";
        return Err(WebhookError::UnsupportedType(reason.into()));
    }
    Ok(())
}

fn check_json(text: &str) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Checked { depth: 0 }.deserialize(&mut reader)?;
    reader.end()
}

/// Reads a JSON value and keeps nothing of it. `IgnoredAny` would not do: it takes any depth, and texts
/// and numbers that whoever reads the message later could not read.
struct Checked {
    depth: usize,
}

impl Checked {
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth < WEBHOOK_DEPTH_MAX {
            Ok(self.depth + 1)
        } else {
            Err(E::custom(format!("deeper than {WEBHOOK_DEPTH_MAX} levels")))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        if number.is_finite() {
            Ok(())
        } else {
            Err(E::custom("number out of range"))
        }
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let depth = self.deeper::<A::Error>()?;
        while items.next_element_seed(Checked { depth })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let depth = self.deeper::<A::Error>()?;
        while members.next_key_seed(Checked { depth })?.is_some() {
            members.next_value_seed(Checked { depth })?;
        }
        Ok(())
    }
}
