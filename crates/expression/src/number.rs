//! Numbers as JavaScript writes and rounds them.

/// As `String(number)` in JavaScript: the shortest digits that read back the same.
pub(crate) fn to_text(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    if !number.is_finite() {
        return if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    let (negative, digits, point) = decimal(number);
    let sign = if negative { "-" } else { "" };
    let count = digits.len() as i32;
    if !(-5..=21).contains(&point) {
        let exponent = point - 1;
        let fraction = if count > 1 {
            format!(".{}", &digits[1..])
        } else {
            String::new()
        };
        let plus = if exponent >= 0 { "+" } else { "" };
        return format!("{sign}{}{fraction}e{plus}{exponent}", &digits[..1]);
    }
    if point <= 0 {
        return format!(
            "{sign}0.{}{digits}",
            "0".repeat(point.unsigned_abs() as usize)
        );
    }
    let point = point as usize;
    if point >= digits.len() {
        return format!("{sign}{digits}{}", "0".repeat(point - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..point], &digits[point..])
}

/// Sign, significant digits and the position of the decimal point among them.
fn decimal(number: f64) -> (bool, String, i32) {
    let text = format!("{:e}", number.abs());
    let (mantissa, exponent) = text
        .split_once('e')
        .expect("the exponential format has an e");
    let exponent: i32 = exponent.parse().expect("the exponent is an integer");
    (number < 0.0, mantissa.replace('.', ""), exponent + 1)
}

/// As `Number(number.toPrecision(15))`: hides what binary fractions leave behind, such as 0.1 + 0.2.
pub(crate) fn to_precision_15(number: f64) -> f64 {
    if number.fract() == 0.0 {
        return number;
    }
    format!("{number:.14e}")
        .parse()
        .expect("the exponential format reads back")
}

/// `number` × 10^`places`, by its decimal digits, so that 1.005 × 100 is 100.5.
fn shift(number: f64, places: i32) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return number;
    }
    let (negative, digits, point) = decimal(number);
    let exponent = point
        .saturating_sub(digits.len() as i32)
        .saturating_add(places);
    let sign = if negative { "-" } else { "" };
    format!("{sign}{digits}e{exponent}")
        .parse()
        .expect("sign, digits and exponent are a number")
}

/// Rounds to `places` decimals, halves to the even neighbour.
pub(crate) fn round(number: f64, places: i32) -> f64 {
    let shifted = if places == 0 {
        number
    } else {
        shift(number, places)
    };
    let rounded = shifted.round_ties_even();
    let result = if places == 0 {
        rounded
    } else {
        shift(rounded, places.saturating_neg())
    };
    if result == 0.0 { 0.0 } else { result }
}

/// Reads what `$number` accepts: JSON's decimal form (leading zeros allowed) or 0x, 0o, 0b.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    for (prefix, radix) in [
        ("0x", 16),
        ("0X", 16),
        ("0o", 8),
        ("0O", 8),
        ("0b", 2),
        ("0B", 2),
    ] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let valid = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
            return valid.then(|| {
                digits.chars().fold(0.0, |sum, digit| {
                    sum * f64::from(radix)
                        + f64::from(digit.to_digit(radix).expect("checked above"))
                })
            });
        }
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits =
        exponent.is_none_or(|part| digits(part.strip_prefix(['+', '-']).unwrap_or(part)));
    if !digits(whole) || !fraction.is_none_or(digits) || !exponent_fits {
        return None;
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_as_javascript() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-12.5, "-12.5"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (0.000_001, "0.000001"),
            (1e-7, "1e-7"),
            (1.25e-9, "1.25e-9"),
            (0.1 + 0.2, "0.30000000000000004"),
        ] {
            assert_eq!(to_text(number), text);
        }
    }

    #[test]
    fn rounds_halves_to_even() {
        for (number, places, result) in [
            (0.5, 0, 0.0),
            (1.5, 0, 2.0),
            (-1.5, 0, -2.0),
            (125.0, -1, 120.0),
            (1.005, 2, 1.0),
            (2.5, 0, 2.0),
            (123.456, 2, 123.46),
            (1e300, 400, 1e300),
        ] {
            let found = round(number, places);
            assert!(
                found == result || !found.is_finite(),
                "{number} to {places} gave {found}"
            );
        }
    }

    #[test]
    fn reads_what_number_accepts() {
        for (text, number) in [
            ("12", Some(12.0)),
            ("-1.5e2", Some(-150.0)),
            ("0x1F", Some(31.0)),
            ("0b101", Some(5.0)),
            ("007", Some(7.0)),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
        for text in [
            "", "-", "1.", ".5", "1e", "1e400", "0x", "0xg", "inf", "NaN", "+1", " 1", "1_0",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
