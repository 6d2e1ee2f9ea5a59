//! The one way to write a document down, so that equal content has equal bytes and an equal hash.

use std::fmt::Write;

use serde_json::{Number, Value};
use sha2::{Digest, Sha256};
use tidemill_types::flow::FlowDocument;

/// The document as JSON with sorted keys and no insignificant whitespace, without what is at its default and
/// without keys that a server manages. As RFC 8785 asks, but that whole numbers beyond 2^53 are kept exact.
pub fn canonical_json(doc: &FlowDocument) -> String {
    let value = serde_json::to_value(doc).expect("a document has only string keys, so it is JSON");
    let mut out = String::new();
    write_value(&mut out, &value);
    out
}

/// SHA-256 of [`canonical_json`].
pub fn content_hash(doc: &FlowDocument) -> [u8; 32] {
    Sha256::digest(canonical_json(doc)).into()
}

/// Any value, in the same form.
pub(super) fn canonical_value(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            // RFC 8785 sorts by UTF-16 code units, which is not the order of UTF-8 bytes.
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (position, (key, member)) in members.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write_value(out, member);
            }
            out.push('}');
        }
    }
}

/// `1`, `1.0` and `1e0` are one number and get one spelling.
fn write_number(out: &mut String, number: &Number) {
    match number.as_f64() {
        Some(float) if number.is_f64() => write_float(out, float),
        // Whole numbers of 64 bits.
        _ => write!(out, "{number}").expect("writing to a String cannot fail"),
    }
}

/// As ECMAScript spells numbers, which RFC 8785 asks for. Not left to serde_json, whose spelling of floats has
/// changed between versions: a hash has to outlive them.
fn write_float(out: &mut String, float: f64) {
    // The shortest digits that give this float again, as `d.ddde-7`.
    let shortest = format!("{:e}", float.abs());
    let (digits, exponent) = shortest.split_once('e').expect("the form of LowerExp");
    let digits = digits.replace('.', "");
    let count = digits.len() as i32;
    // Where the point stands, counted from the first digit.
    let point = exponent.parse::<i32>().expect("the form of LowerExp") + 1;
    if float < 0.0 {
        out.push('-');
    }
    if (count..=21).contains(&point) {
        out.push_str(&digits);
        out.extend(std::iter::repeat_n('0', (point - count) as usize));
    } else if (1..=21).contains(&point) {
        let (whole, fraction) = digits.split_at(point as usize);
        out.push_str(&format!("{whole}.{fraction}"));
    } else if (-5..=0).contains(&point) {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', -point as usize));
        out.push_str(&digits);
    } else {
        let (first, fraction) = digits.split_at(1);
        let dot = if fraction.is_empty() { "" } else { "." };
        out.push_str(&format!("{first}{dot}{fraction}e{:+}", point - 1));
    }
}

/// serde_json escapes as RFC 8785 asks: only what has to be, in the short form where there is one.
fn write_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a string is JSON"));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::canonical_value;

    #[test]
    fn one_spelling_for_one_value() {
        for (value, expected) in [
            (
                json!({"b": 1, "a": [true, null, {"d": "x", "c": ""}]}),
                r#"{"a":[true,null,{"c":"","d":"x"}],"b":1}"#,
            ),
            (json!([1.0, -0.0, 1.5, 0.1, 1e300]), "[1,0,1.5,0.1,1e+300]"),
            (
                json!([u64::MAX, i64::MIN]),
                "[18446744073709551615,-9223372036854775808]",
            ),
            (
                json!("\u{8}\t\n\u{c}\r\"\\/\u{1}\u{7f}ü€😀"),
                "\"\\b\\t\\n\\f\\r\\\"\\\\/\\u0001\u{7f}ü€😀\"",
            ),
            // U+FB33 comes after U+1F600 in UTF-16, before it in UTF-8.
            (
                json!({"\u{fb33}": 1, "\u{1f600}": 2}),
                "{\"\u{1f600}\":2,\"\u{fb33}\":1}",
            ),
        ] {
            assert_eq!(canonical_value(&value), expected);
        }
        // From RFC 8785, appendix B, all but the one tie.
        for (bits, expected) in [
            (0x8000_0000_0000_0000u64, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        ] {
            assert_eq!(canonical_value(&json!(f64::from_bits(bits))), expected);
        }
        let spellings = ["1e2", "100", "100.0", "1.00E+2"];
        for text in spellings {
            let value: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(canonical_value(&value), "100", "{text}");
        }
    }
}
