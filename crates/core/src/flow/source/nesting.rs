//! Refuses YAML that nests too deep before the YAML parser has read much of it.
//!
//! libyaml looks at every open bracket for each token, and `serde_norway` reads a document to its end before it
//! hands out the first value: a megabyte of `{a: {a: {a:` takes it minutes. So a long text is first read in
//! growing parts. Each part opens few more brackets than the part before, which was found to nest little, so
//! none of them takes long; and a text of a usual size has one part only, itself, and is not read twice.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use tidemill_types::limits::{
    FLOW_DOCUMENT_DEPTH_MAX, FLOW_DOCUMENT_VALUES_MAX, FLOW_YAML_BRACKETS_MAX,
};

use super::{too_deep, too_many_values};

/// A part ends when it has opened this many more brackets than the one before.
const PART_BRACKETS: usize = 2_048;
/// A part ends when it is this many bytes longer than the one before.
const PART_BYTES: usize = 128 * 1024;

/// Why the text must not be parsed as a whole, if so. What else is wrong with it is found by parsing it.
pub(super) fn refuse(text: &str) -> Option<String> {
    let opened = text.bytes().filter(|byte| is_opening(*byte)).count();
    if opened > FLOW_YAML_BRACKETS_MAX {
        return Some(format!(
            "{opened} opening brackets; at most {FLOW_YAML_BRACKETS_MAX} are allowed in YAML: \
             write it as JSON"
        ));
    }
    let (mut start, mut brackets) = (0, 0);
    for (at, byte) in text.bytes().enumerate() {
        brackets += usize::from(is_opening(byte));
        if brackets >= PART_BRACKETS || at - start >= PART_BYTES {
            (start, brackets) = (at, 0);
            // Not in the middle of a character: at the end of the one before.
            let end = (0..=at).rev().find(|end| text.is_char_boundary(*end));
            let refused = refuse_part(&text[..end.unwrap_or_default()]);
            if refused.is_some() {
                return refused;
            }
        }
    }
    None
}

fn is_opening(byte: u8) -> bool {
    matches!(byte, b'[' | b'{')
}

fn refuse_part(part: &str) -> Option<String> {
    let mut seen = Seen {
        values: 0,
        refused: None,
    };
    for document in serde_norway::Deserializer::from_str(part) {
        // An error ends the stream: where the part was cut off, or a mistake that parsing the text will find.
        if (Walk {
            seen: &mut seen,
            depth: 0,
        })
        .deserialize(document)
        .is_err()
        {
            break;
        }
    }
    seen.refused
}

struct Seen {
    values: usize,
    refused: Option<String>,
}

/// Visits every value, builds none, and minds nothing but depth and number.
struct Walk<'a> {
    seen: &'a mut Seen,
    depth: usize,
}

impl Walk<'_> {
    fn count<E: Error>(&mut self) -> Result<(), E> {
        self.seen.values += 1;
        if self.seen.values > FLOW_DOCUMENT_VALUES_MAX {
            return Err(self.refuse(too_many_values()));
        }
        Ok(())
    }

    fn refuse<E: Error>(&mut self, reason: String) -> E {
        let error = E::custom(&reason);
        self.seen.refused = Some(reason);
        error
    }

    fn deeper<E: Error>(&mut self) -> Result<Walk<'_>, E> {
        self.count()?;
        if self.depth == FLOW_DOCUMENT_DEPTH_MAX {
            return Err(self.refuse(too_deep()));
        }
        Ok(Walk {
            seen: self.seen,
            depth: self.depth + 1,
        })
    }

    fn again(&mut self) -> Walk<'_> {
        Walk {
            seen: self.seen,
            depth: self.depth,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.count()
    }

    fn visit_none<E: Error>(mut self) -> Result<(), E> {
        self.count()
    }

    fn visit_bool<E: Error>(mut self, _: bool) -> Result<(), E> {
        self.count()
    }

    fn visit_i64<E: Error>(mut self, _: i64) -> Result<(), E> {
        self.count()
    }

    fn visit_u64<E: Error>(mut self, _: u64) -> Result<(), E> {
        self.count()
    }

    fn visit_i128<E: Error>(mut self, _: i128) -> Result<(), E> {
        self.count()
    }

    fn visit_u128<E: Error>(mut self, _: u128) -> Result<(), E> {
        self.count()
    }

    fn visit_f64<E: Error>(mut self, _: f64) -> Result<(), E> {
        self.count()
    }

    fn visit_str<E: Error>(mut self, _: &str) -> Result<(), E> {
        self.count()
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut inner = self.deeper()?;
        while seq.next_element_seed(inner.again())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut inner = self.deeper()?;
        while map.next_key_seed(inner.again())?.is_some() {
            map.next_value_seed(inner.again())?;
        }
        Ok(())
    }

    /// A tagged value.
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        let (_, variant) = access.variant::<String>()?;
        variant.newtype_variant_seed(self)
    }
}
