//! XML to JSON as OIH's users know it: attributes under `_attr`, `ns:tag` as `ns-tag`, repeated elements
//! as an array, text beside other content under `_`.
//!
//! No document type and no entity but the five of XML and character references: nothing is fetched,
//! nothing is expanded.

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};
use serde_json::{Map, Value};
use tidemill_types::limits::{WEBHOOK_DEPTH_MAX, WEBHOOK_XML_ATTRIBUTES_MAX};

use super::WebhookError;

const ATTRIBUTES: &str = "_attr";
const TEXT: &str = "_";

/// `{root: …}`.
pub(super) fn parse(text: &str) -> Result<Value, WebhookError> {
    read(text).map_err(|reason| WebhookError::Bad(format!("the body is not XML: {reason}")))
}

/// An element whose end has not come yet.
#[derive(Default)]
struct Element {
    name: String,
    members: Map<String, Value>,
    text: String,
    /// Character data that is no mere layout.
    has_text: bool,
}

fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader::from_str(text);
    // Each element is closed by the one above it; the document is closed last.
    let mut open = vec![Element::default()];
    loop {
        let event = reader.read_event().map_err(|error| error.to_string())?;
        match event {
            Event::Start(start) => {
                if open.len() > WEBHOOK_DEPTH_MAX {
                    return Err(format!("deeper than {WEBHOOK_DEPTH_MAX} levels"));
                }
                open.push(Element::new(&start)?);
            }
            Event::Empty(start) => {
                let element = Element::new(&start)?;
                innermost(&mut open).add(element);
            }
            Event::End(_) => {
                let element = open.pop().expect("the document is there");
                // quick-xml has checked that it ends what was begun.
                innermost(&mut open).add(element);
            }
            Event::Text(part) => innermost(&mut open).add_text(&part.xml10_content(), false),
            Event::CData(part) => innermost(&mut open).add_text(&part.xml10_content(), true),
            Event::GeneralRef(reference) => {
                let character = reference
                    .resolve_char_ref()
                    .map_err(|error| error.to_string())?;
                let name = reference.xml10_content();
                let character = match (character, name.as_ref()) {
                    (Some(character), _) => character,
                    (None, "lt") => '<',
                    (None, "gt") => '>',
                    (None, "amp") => '&',
                    (None, "apos") => '\'',
                    (None, "quot") => '"',
                    (None, _) => {
                        return Err("it refers to an entity that is not one of XML's own".into());
                    }
                };
                innermost(&mut open).add_text(character.encode_utf8(&mut [0; 4]), true);
            }
            Event::DocType(_) => return Err("document types are not accepted".into()),
            Event::Decl(declaration) => {
                let encoding = declaration.encoding().transpose();
                let encoding = encoding.map_err(|error| error.to_string())?;
                if encoding.is_some_and(|name| !name.eq_ignore_ascii_case("utf-8"))
                    && !text.is_ascii()
                {
                    return Err("it declares an encoding that is not UTF-8".into());
                }
            }
            Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    let document = match (open.pop(), open.is_empty()) {
        (Some(document), true) => document,
        _ => return Err("it ends before its elements do".into()),
    };
    if document.has_text {
        return Err("there is text outside of the root element".into());
    }
    match document.members.len() {
        1 if !document.members.values().all(Value::is_array) => Ok(Value::Object(document.members)),
        0 => Err("it has no root element".into()),
        _ => Err("it has more than one root element".into()),
    }
}

fn innermost(open: &mut [Element]) -> &mut Element {
    open.last_mut()
        .expect("the document is closed after the loop only")
}

impl Element {
    fn new(start: &BytesStart<'_>) -> Result<Self, String> {
        let name = start.name().0.replacen(':', "-", 1);
        if name.is_empty() {
            return Err("an element has no name".into());
        }
        let mut attributes = Map::new();
        let mut given = start.attributes();
        // Looking for the same name twice would take quadratic time; the map does it below.
        given.with_checks(false);
        for attribute in given {
            let attribute = attribute.map_err(|error| error.to_string())?;
            if attributes.len() >= WEBHOOK_XML_ATTRIBUTES_MAX {
                return Err(format!(
                    "an element has more than {WEBHOOK_XML_ATTRIBUTES_MAX} attributes"
                ));
            }
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| error.to_string())?;
            let name = attribute.key.0.to_owned();
            if attributes
                .insert(name, Value::String(value.into_owned()))
                .is_some()
            {
                return Err("an element has an attribute twice".into());
            }
        }
        let mut members = Map::new();
        if !attributes.is_empty() {
            members.insert(ATTRIBUTES.to_owned(), Value::Object(attributes));
        }
        Ok(Self {
            name,
            members,
            text: String::new(),
            has_text: false,
        })
    }

    fn add_text(&mut self, text: &str, is_meant: bool) {
        self.has_text |= is_meant || !text.trim_ascii().is_empty();
        self.text.push_str(text);
    }

    fn add(&mut self, child: Element) {
        let Element {
            name,
            mut members,
            text,
            has_text,
        } = child;
        let value = if members.is_empty() {
            // Blanks alone are the content where there is nothing else.
            Value::String(text)
        } else {
            if has_text {
                put(&mut members, TEXT.to_owned(), Value::String(text));
            }
            Value::Object(members)
        };
        put(&mut self.members, name, value);
    }
}

/// Adds a member; the second of a name makes an array of both.
fn put(members: &mut Map<String, Value>, name: String, value: Value) {
    match members.get_mut(&name) {
        None => {
            members.insert(name, value);
        }
        Some(Value::Array(items)) => items.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}
