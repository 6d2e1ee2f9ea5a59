//! Rows as protobuf, straight from and to our own types.
//!
//! `stored!` declares a struct and its field numbers in one place and uses prost's primitives for
//! the bytes: fields in order of their numbers, default values left out, unknown fields skipped. So
//! equal rows have equal bytes (the journal's hash chain relies on it), and a newer version's fields
//! do not stop an older one. See `docs/adr/0002-rows.md` for why this is not generated code.
//!
//! Some thirty rows and records are written for an execution of one step, so writing costs no allocation but
//! the row's own bytes.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use bytes::{Buf, Bytes};
use prost::encoding::{self, DecodeContext, WireType};
use thiserror::Error;
use tidemill_types::{ExecutionId, FlowId, Timestamp};

/// Why bytes are not the row that they should be: damage, never a caller's mistake.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("stored {what} cannot be read: {reason}")]
pub struct RowError {
    /// The type that was expected.
    pub what: &'static str,
    /// What does not fit.
    pub reason: String,
}

/// A type that can be a whole row.
pub trait Stored: Sized {
    /// The row's bytes.
    fn to_bytes(&self) -> Bytes;

    /// Reads a row; byte fields share the bytes given.
    ///
    /// # Errors
    /// [`RowError`] when the bytes are damaged.
    fn from_bytes(bytes: Bytes) -> Result<Self, RowError>;
}

/// A type that can be a field of a row.
pub trait Field: Default {
    /// Writes the field unless it has its default value.
    fn put(&self, tag: u32, out: &mut Vec<u8>);

    /// Reads one occurrence of the field.
    ///
    /// # Errors
    /// prost's, when the bytes do not fit the type.
    fn merge(&mut self, wire: WireType, bytes: &mut Bytes) -> Result<(), prost::DecodeError>;
}

/// A field whose every value can be told from absence, so that it can be optional or repeated.
pub trait Element: Field {
    /// Writes the field even when it has its default value.
    fn put_always(&self, tag: u32, out: &mut Vec<u8>);
}

/// A field whose bytes are those of prost's codec.
macro_rules! scalar {
    ($type:ty, $codec:ident, |$value:ident, $tag:ident, $out:ident| $put:expr) => {
        impl Field for $type {
            fn put(&self, tag: u32, out: &mut Vec<u8>) {
                if *self != <$type>::default() {
                    self.put_always(tag, out);
                }
            }

            fn merge(
                &mut self,
                wire: WireType,
                bytes: &mut Bytes,
            ) -> Result<(), prost::DecodeError> {
                encoding::$codec::merge(wire, self, bytes, DecodeContext::default())
            }
        }

        impl Element for $type {
            fn put_always(&self, $tag: u32, $out: &mut Vec<u8>) {
                let $value = self;
                $put;
            }
        }
    };
}

scalar!(bool, bool, |value, tag, out| encoding::bool::encode(
    tag, value, out
));
scalar!(u32, uint32, |value, tag, out| put_number(
    tag,
    u64::from(*value),
    out
));
scalar!(u64, uint64, |value, tag, out| put_number(tag, *value, out));
scalar!(i64, int64, |value, tag, out| put_number(
    tag,
    *value as u64,
    out
));
scalar!(String, string, |value, tag, out| put_slice(
    tag,
    value.as_bytes(),
    out
));
scalar!(Bytes, bytes, |value, tag, out| put_slice(tag, value, out));

impl Field for Timestamp {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        self.0.put(tag, out);
    }

    fn merge(&mut self, wire: WireType, bytes: &mut Bytes) -> Result<(), prost::DecodeError> {
        self.0.merge(wire, bytes)
    }
}

impl Element for Timestamp {
    fn put_always(&self, tag: u32, out: &mut Vec<u8>) {
        self.0.put_always(tag, out);
    }
}

impl Field for Arc<str> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            self.put_always(tag, out);
        }
    }

    fn merge(&mut self, wire: WireType, bytes: &mut Bytes) -> Result<(), prost::DecodeError> {
        let mut text = String::new();
        text.merge(wire, bytes)?;
        *self = Self::from(text);
        Ok(())
    }
}

impl Element for Arc<str> {
    fn put_always(&self, tag: u32, out: &mut Vec<u8>) {
        put_slice(tag, self.as_bytes(), out);
    }
}

/// A prost error with our own text. prost gives no public constructor but this derivative one.
pub(crate) fn invalid() -> prost::DecodeError {
    // An over-long varint is the shortest input that prost refuses.
    encoding::decode_varint(&mut [0xff_u8; 11].as_slice())
        .err()
        .unwrap_or_else(|| unreachable!("eleven continuation bytes are no varint"))
}

/// Bytes of a fixed number. All zeros is the default.
macro_rules! fixed {
    ($type:ident) => {
        impl Field for $type {
            fn put(&self, tag: u32, out: &mut Vec<u8>) {
                if *self != Self::default() {
                    self.put_always(tag, out);
                }
            }

            fn merge(
                &mut self,
                wire: WireType,
                bytes: &mut Bytes,
            ) -> Result<(), prost::DecodeError> {
                encoding::check_wire_type(WireType::LengthDelimited, wire)?;
                let len = encoding::decode_varint(bytes)?;
                if len != self.0.len() as u64 || bytes.remaining() < self.0.len() {
                    return Err(invalid());
                }
                bytes.copy_to_slice(&mut self.0);
                Ok(())
            }
        }

        impl Element for $type {
            fn put_always(&self, tag: u32, out: &mut Vec<u8>) {
                put_slice(tag, &self.0, out);
            }
        }
    };
}

fixed!(FlowId);
fixed!(ExecutionId);

/// A SHA-256 hash; all zeros is its default.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

fixed!(Hash);

impl<T: Element> Field for Option<T> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.put_always(tag, out);
        }
    }

    fn merge(&mut self, wire: WireType, bytes: &mut Bytes) -> Result<(), prost::DecodeError> {
        self.get_or_insert_default().merge(wire, bytes)
    }
}

impl<T: Element> Field for Vec<T> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        for value in self {
            value.put_always(tag, out);
        }
    }

    fn merge(&mut self, wire: WireType, bytes: &mut Bytes) -> Result<(), prost::DecodeError> {
        let mut value = T::default();
        value.merge(wire, bytes)?;
        self.push(value);
        Ok(())
    }
}

impl<T: Element> Field for BTreeMap<String, T> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        for (key, value) in self {
            put_nested(tag, out, |out| {
                key.put(1, out);
                value.put(2, out);
            });
        }
    }

    fn merge(&mut self, wire: WireType, bytes: &mut Bytes) -> Result<(), prost::DecodeError> {
        let mut entry = Bytes::new();
        entry.merge(wire, bytes)?;
        let (mut key, mut value) = (String::new(), T::default());
        while entry.has_remaining() {
            let (tag, wire) = encoding::decode_key(&mut entry)?;
            match tag {
                1 => key.merge(wire, &mut entry)?,
                2 => value.merge(wire, &mut entry)?,
                _ => skip(wire, tag, &mut entry)?,
            }
        }
        self.insert(key, value);
        Ok(())
    }
}

/// Skips a field that this version does not know.
pub(crate) fn skip(wire: WireType, tag: u32, bytes: &mut Bytes) -> Result<(), prost::DecodeError> {
    encoding::skip_field(wire, tag, bytes, DecodeContext::default())
}

pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_key(tag: u32, wire: WireType, out: &mut Vec<u8>) {
    put_varint(u64::from(tag << 3 | wire as u32), out);
}

/// Writes a number as a field: a varint.
fn put_number(tag: u32, number: u64, out: &mut Vec<u8>) {
    put_key(tag, WireType::Varint, out);
    put_varint(number, out);
}

/// Writes bytes as a field.
pub(crate) fn put_slice(tag: u32, slice: &[u8], out: &mut Vec<u8>) {
    put_key(tag, WireType::LengthDelimited, out);
    put_varint(slice.len() as u64, out);
    out.extend_from_slice(slice);
}

/// Writes a nested message as a field, straight to where it belongs; gives the place of its bytes.
pub(crate) fn put_nested(
    tag: u32,
    out: &mut Vec<u8>,
    put: impl FnOnce(&mut Vec<u8>),
) -> std::ops::Range<usize> {
    put_key(tag, WireType::LengthDelimited, out);
    let at = out.len();
    // One byte of length is enough for most.
    out.push(0);
    put(out);
    let len = out.len() - at - 1;
    match u8::try_from(len) {
        Ok(short @ ..0x80) => out[at] = short,
        _ => {
            let mut long = Vec::new();
            put_varint(len as u64, &mut long);
            out.splice(at..=at, long);
        }
    }
    out.len() - len..out.len()
}

thread_local! {
    /// Where rows are written before their size is known.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A scratch that a large row has passed through is not kept.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// The bytes that `put` writes, in an allocation of just their size.
pub(crate) fn written(put: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    // Taken and given back, so that rows may be written within `put`.
    let mut out = SCRATCH.take();
    out.clear();
    put(&mut out);
    let bytes = Bytes::copy_from_slice(&out);
    if out.capacity() <= SCRATCH_BYTES_MAX {
        SCRATCH.set(out);
    }
    bytes
}

/// Declares a stored struct: `name: Type = field number`. Numbers are fixed for ever.
macro_rules! stored {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $tag:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $name {
            fn put_fields(&self, out: &mut Vec<u8>) {
                $($crate::wire::Field::put(&self.$field, $tag, out);)*
            }

            fn merge_fields(&mut self, bytes: &mut bytes::Bytes) -> Result<(), prost::DecodeError> {
                while bytes::Buf::has_remaining(bytes) {
                    let (tag, wire) = prost::encoding::decode_key(bytes)?;
                    match tag {
                        $($tag => $crate::wire::Field::merge(&mut self.$field, wire, bytes)?,)*
                        _ => $crate::wire::skip(wire, tag, bytes)?,
                    }
                }
                Ok(())
            }
        }

        impl $crate::wire::Stored for $name {
            fn to_bytes(&self) -> bytes::Bytes {
                $crate::wire::written(|out| self.put_fields(out))
            }

            fn from_bytes(mut bytes: bytes::Bytes) -> Result<Self, $crate::wire::RowError> {
                let mut row = Self::default();
                row.merge_fields(&mut bytes).map_err(|e| $crate::wire::RowError {
                    what: stringify!($name),
                    reason: e.to_string(),
                })?;
                Ok(row)
            }
        }

        impl $crate::wire::Field for $name {
            fn put(&self, tag: u32, out: &mut Vec<u8>) {
                $crate::wire::Element::put_always(self, tag, out);
            }

            fn merge(
                &mut self,
                wire: prost::encoding::WireType,
                bytes: &mut bytes::Bytes,
            ) -> Result<(), prost::DecodeError> {
                let mut nested = bytes::Bytes::new();
                $crate::wire::Field::merge(&mut nested, wire, bytes)?;
                self.merge_fields(&mut nested)
            }
        }

        impl $crate::wire::Element for $name {
            fn put_always(&self, tag: u32, out: &mut Vec<u8>) {
                $crate::wire::put_nested(tag, out, |out| self.put_fields(out));
            }
        }
    };
}

/// Declares a stored enum with fixed numbers; the first variant is the default.
macro_rules! stored_enum {
    ($(#[$doc:meta])* pub enum $name:ident { $first:ident = $first_number:literal $text0:literal, $($variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum $name {
            #[doc = $text0]
            #[default]
            $first = $first_number,
            $(#[doc = $text] $variant = $number,)*
        }

        impl $name {
            /// The name in journals, APIs and tables.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { Self::$first => $text0, $(Self::$variant => $text,)* }
            }

            /// The value with this number.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $first_number => Some(Self::$first),
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::wire::Field for $name {
            fn put(&self, tag: u32, out: &mut Vec<u8>) {
                $crate::wire::Field::put(&(*self as u32), tag, out);
            }

            fn merge(
                &mut self,
                wire: prost::encoding::WireType,
                bytes: &mut bytes::Bytes,
            ) -> Result<(), prost::DecodeError> {
                let mut number = 0_u32;
                $crate::wire::Field::merge(&mut number, wire, bytes)?;
                *self = Self::from_number(number).ok_or_else($crate::wire::invalid)?;
                Ok(())
            }
        }
    };
}

pub(crate) use {stored, stored_enum};
