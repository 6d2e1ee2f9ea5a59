//! Values while an expression runs. What comes from the input is borrowed, never copied, so a condition
//! on one field of a large message costs what that field costs. Must never outlive one evaluation.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::functions::Builtin;
use crate::pattern::Pattern;

/// Integers up to this size are exact as a double.
const EXACT_INTEGER_MAX: u64 = 1 << 53;

/// Text, of the input or the source (borrowed) or built on the way.
#[derive(Debug, Clone)]
pub(crate) enum Text<'a> {
    Borrowed(&'a str),
    Owned(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(text) => text,
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text<'_> {}

impl Hash for Text<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl std::borrow::Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        self
    }
}

/// Index of a function object in the evaluator's arena. Functions are indices, not pointers, so that
/// closures that know each other are no reference cycle and dropping a long chain of them is flat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FunctionId(pub u32);

/// An array built on the way, with what JSONata must know about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Array<'a> {
    pub items: Vec<Value<'a>>,
    /// Nesting, this level included.
    pub depth: u32,
    /// A result sequence: one item stands for itself, none for nothing.
    pub sequence: bool,
    /// A sequence of one item stays an array (`[]` was written).
    pub keep_singleton: bool,
    /// Written as `[…]` in a path: is not flattened into the surrounding sequence.
    pub constructed: bool,
    /// The wrapper around an input that is itself an array.
    pub outer_wrapper: bool,
}

impl Array<'_> {
    /// An empty array with the same marks.
    pub fn clone_flags(&self) -> Self {
        Self {
            items: Vec::new(),
            depth: 1,
            sequence: self.sequence,
            keep_singleton: self.keep_singleton,
            constructed: self.constructed,
            outer_wrapper: self.outer_wrapper,
        }
    }
}

/// An object built on the way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Object<'a> {
    pub entries: IndexMap<Text<'a>, Value<'a>>,
    /// Nesting, this level included.
    pub depth: u32,
}

/// One item of a path that also binds variables (`@`, `#`, `%`).
#[derive(Debug, Clone)]
pub(crate) struct Tuple<'a> {
    pub context: Value<'a>,
    pub names: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Tuple<'a> {
    pub fn set(&mut self, name: &'a str, value: Value<'a>) {
        match self.names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, slot)) => *slot = value,
            None => self.names.push((name, value)),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    /// An integer of the input that a double cannot hold: passed through unharmed.
    Exact(&'a serde_json::Number),
    String(Text<'a>),
    JsonArray(&'a Vec<Json>),
    JsonObject(&'a serde_json::Map<String, Json>),
    Array(Rc<Array<'a>>),
    Object(Rc<Object<'a>>),
    Builtin(&'static Builtin),
    Function(FunctionId),
    Pattern(&'a Pattern),
    /// Only between the steps of a path that binds variables.
    Tuples(Rc<Vec<Tuple<'a>>>),
}

impl<'a> Value<'a> {
    pub fn from_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => Self::Bool(*flag),
            Json::Number(number) => {
                let exact = match (number.as_i64(), number.as_u64()) {
                    (Some(integer), _) => integer.unsigned_abs() <= EXACT_INTEGER_MAX,
                    (None, Some(_)) => false,
                    (None, None) => true,
                };
                match number.as_f64() {
                    Some(double) if exact => Self::Number(double),
                    _ => Self::Exact(number),
                }
            }
            Json::String(text) => Self::String(Text::Borrowed(text)),
            Json::Array(items) => Self::JsonArray(items),
            Json::Object(entries) => Self::JsonObject(entries),
        }
    }

    pub fn text(text: impl Into<Rc<str>>) -> Self {
        Self::String(Text::Owned(text.into()))
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined)
    }

    pub fn is_array(&self) -> bool {
        matches!(self, Self::JsonArray(_) | Self::Array(_) | Self::Tuples(_))
    }

    pub fn is_object(&self) -> bool {
        matches!(self, Self::JsonObject(_) | Self::Object(_))
    }

    pub fn is_function(&self) -> bool {
        matches!(
            self,
            Self::Builtin(_) | Self::Function(_) | Self::Pattern(_)
        )
    }

    pub fn is_sequence(&self) -> bool {
        match self {
            Self::Array(array) => array.sequence,
            Self::Tuples(_) => true,
            _ => false,
        }
    }

    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Exact(number) => number.as_f64(),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Number of items when this is seen as a list: an array's length, otherwise one.
    pub fn len(&self) -> usize {
        match self {
            Self::JsonArray(items) => items.len(),
            Self::Array(array) => array.items.len(),
            Self::Tuples(tuples) => tuples.len(),
            _ => 1,
        }
    }

    /// The item at `index` when this is seen as a list; nothing beyond its end.
    pub fn item(&self, index: usize) -> Value<'a> {
        match self {
            Self::JsonArray(items) => items.get(index).map_or(Self::Undefined, Self::from_json),
            Self::Array(array) => array.items.get(index).cloned().unwrap_or(Self::Undefined),
            Self::Tuples(tuples) => tuples
                .get(index)
                .map_or(Self::Undefined, |tuple| tuple.context.clone()),
            other if index == 0 => other.clone(),
            _ => Self::Undefined,
        }
    }

    /// The items when this is seen as a list.
    pub fn items(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).map(|index| self.item(index))
    }

    /// The member `name` of an object; nothing when there is none or this is no object.
    pub fn member(&self, name: &str) -> Value<'a> {
        match self {
            Self::JsonObject(entries) => entries.get(name).map_or(Self::Undefined, Self::from_json),
            Self::Object(object) => object.entries.get(name).cloned().unwrap_or(Self::Undefined),
            _ => Self::Undefined,
        }
    }

    /// Number of members of an object; zero for anything else.
    pub fn member_count(&self) -> usize {
        match self {
            Self::JsonObject(entries) => entries.len(),
            Self::Object(object) => object.entries.len(),
            _ => 0,
        }
    }

    /// The members of an object in order; none for anything else.
    pub fn members(&self) -> Vec<(Text<'a>, Value<'a>)> {
        match self {
            Self::JsonObject(entries) => entries
                .iter()
                .map(|(name, value)| (Text::Borrowed(name.as_str()), Self::from_json(value)))
                .collect(),
            Self::Object(object) => object
                .entries
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Nesting of what was built on the way; what is borrowed counts as one level.
    pub fn depth(&self) -> u32 {
        match self {
            Self::JsonArray(_) | Self::JsonObject(_) => 1,
            Self::Array(array) => array.depth,
            Self::Object(object) => object.depth,
            Self::Tuples(tuples) => {
                tuples
                    .iter()
                    .map(|tuple| tuple.context.depth())
                    .max()
                    .unwrap_or(0)
                    + 1
            }
            _ => 0,
        }
    }

    /// What this is, for messages: "a string".
    pub fn described(&self) -> &'static str {
        match self.kind() {
            "nothing" => "nothing",
            "null" => "null",
            "boolean" => "a boolean",
            "number" => "a number",
            "string" => "a string",
            "array" => "an array",
            "object" => "an object",
            _ => "a function",
        }
    }

    /// The name of its type, as `$type` gives it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Undefined => "nothing",
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) | Self::Exact(_) => "number",
            Self::String(_) => "string",
            Self::JsonArray(_) | Self::Array(_) | Self::Tuples(_) => "array",
            Self::JsonObject(_) | Self::Object(_) => "object",
            Self::Builtin(_) | Self::Function(_) | Self::Pattern(_) => "function",
        }
    }
}
