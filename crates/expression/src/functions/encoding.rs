//! Base64 and URL encoding.

use crate::error::{EvaluateError, Result};
use crate::evaluator::{Arguments, Evaluator};
use crate::value::Value;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Characters that `encodeURIComponent` leaves alone, besides letters and digits.
const COMPONENT_SAFE: &str = "-_.!~*'()";
/// Characters that `encodeURI` leaves alone, besides those.
const URL_SAFE: &str = ";/?:@&=+$,#";

pub(super) fn base64_encode<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    evaluator.charge_text(text.len() * 2)?;
    // As the reference: the low byte of each UTF-16 unit.
    let bytes: Vec<u8> = text
        .encode_utf16()
        .map(|unit| unit.to_le_bytes()[0])
        .collect();
    let mut result = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| (word << 8) | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for index in 0..4 {
            if index <= chunk.len() {
                let digit = (word >> (18 - 6 * index)) & 63;
                result.push(char::from(BASE64[digit as usize]));
            } else {
                result.push('=');
            }
        }
    }
    Ok(Value::text(result))
}

pub(super) fn base64_decode<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    evaluator.charge_text(text.len() * 2)?;
    let mut result = String::new();
    let (mut word, mut bits) = (0_u32, 0);
    for byte in text.bytes() {
        let digit = match byte {
            b'=' => break,
            b'-' => 62,
            b'_' => 63,
            _ => match BASE64.iter().position(|known| *known == byte) {
                Some(digit) => digit as u32,
                // What is no digit is skipped, as the reference does.
                None => continue,
            },
        };
        word = (word << 6) | digit;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            result.push(char::from(((word >> bits) & 0xFF) as u8));
        }
    }
    Ok(Value::text(result))
}

fn encode<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: &Arguments<'a>,
    safe: &[&str],
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    evaluator.charge_text(text.len() * 3)?;
    let mut result = String::with_capacity(text.len());
    for byte in text.bytes() {
        let character = char::from(byte);
        if character.is_ascii_alphanumeric()
            || (byte.is_ascii() && safe.iter().any(|set| set.contains(character)))
        {
            result.push(character);
        } else {
            result.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(Value::text(result))
}

fn decode<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: &Arguments<'a>,
    keep: &str,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    evaluator.charge_text(text.len())?;
    let malformed = || EvaluateError::failed("D3140", "the string is not a well-formed URL");
    let bytes = text.as_bytes();
    let mut result = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            result.push(bytes[at]);
            at += 1;
            continue;
        }
        let digits = bytes.get(at + 1..at + 3).ok_or_else(malformed)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(malformed);
        let byte = (digit(digits[0])? * 16 + digit(digits[1])?) as u8;
        if byte.is_ascii() && keep.contains(char::from(byte)) {
            result.extend_from_slice(&bytes[at..at + 3]);
        } else {
            result.push(byte);
        }
        at += 3;
    }
    String::from_utf8(result)
        .map(Value::text)
        .map_err(|_| malformed())
}

pub(super) fn encode_url_component<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    encode(evaluator, &arguments, &[COMPONENT_SAFE])
}

pub(super) fn encode_url<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    encode(evaluator, &arguments, &[COMPONENT_SAFE, URL_SAFE])
}

pub(super) fn decode_url_component<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    decode(evaluator, &arguments, "")
}

pub(super) fn decode_url<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    decode(evaluator, &arguments, URL_SAFE)
}
