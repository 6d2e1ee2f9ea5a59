//! Signatures of requests. All are HMAC-SHA256 over the bytes as they came, compared in constant time.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use thiserror::Error;
use tidemill_types::{
    Timestamp,
    flow::{SignatureScheme, WebhookSignature},
    limits::{WEBHOOK_SIGNATURES_MAX, WEBHOOK_TOLERANCE_MS_DEFAULT},
};

use super::{Headers, Request};

const STANDARD_ID: &str = "webhook-id";
const STANDARD_TIMESTAMP: &str = "webhook-timestamp";
const STANDARD_SIGNATURE: &str = "webhook-signature";
const STANDARD_SECRET_PREFIX: &str = "whsec_";

/// Padding is left out by some senders.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What sender and server both know. Never shown.
#[derive(Clone)]
pub struct Secret {
    key: Vec<u8>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Why a text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SecretError {
    /// Nothing would be a secret that everybody knows.
    #[error("the secret is empty")]
    Empty,
    /// Standard Webhooks writes its secrets in base64.
    #[error("the secret is not of the form `whsec_<base64>`")]
    NotBase64,
}

impl Secret {
    /// A secret as its issuer writes it.
    ///
    /// # Errors
    /// [`SecretError`] when it is empty or not in the scheme's form.
    pub fn new(scheme: SignatureScheme, text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let key = match scheme {
            SignatureScheme::StandardWebhooks => {
                let text = text.strip_prefix(STANDARD_SECRET_PREFIX).unwrap_or(text);
                BASE64.decode(text).map_err(|_| SecretError::NotBase64)?
            }
            // Stripe's secrets look like those of Standard Webhooks, but the text itself is the key.
            SignatureScheme::Github | SignatureScheme::Stripe | SignatureScheme::Oih => {
                text.as_bytes().to_vec()
            }
        };
        if key.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Self { key })
    }

    fn is_signature(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(part);
        }
        mac.verify_slice(signature).is_ok()
    }
}

/// Why a request is not taken for its sender's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// A header of the scheme is not there.
    #[error("the signature is missing: no header {0}")]
    Missing(String),
    /// A header of the scheme is not in its form.
    #[error("the header {header} is not of the form {form}")]
    Malformed {
        /// The header.
        header: String,
        /// Its form.
        form: &'static str,
    },
    /// The signed time is too far from now.
    #[error(
        "the signed time is {seconds} s away from the server's; {tolerance_seconds} s are allowed"
    )]
    TimeOff {
        /// How far.
        seconds: u64,
        /// How far it may be.
        tolerance_seconds: u64,
    },
    /// No signature fits.
    #[error("the signature is wrong")]
    Wrong,
}

/// The header that holds a signature, if requests are signed in one.
pub(super) fn header_of(signature: Option<&WebhookSignature>) -> Option<&str> {
    let signature = signature?;
    match signature.scheme.header() {
        None => Some(STANDARD_SIGNATURE),
        Some(own) => Some(signature.header.as_deref().unwrap_or(own)),
    }
}

/// The header with the id that is signed, if one is.
pub(super) fn signed_id_header(signature: Option<&WebhookSignature>) -> Option<&'static str> {
    (signature?.scheme == SignatureScheme::StandardWebhooks).then_some(STANDARD_ID)
}

/// Checks that a request comes from who knows the secret, and not from long ago.
///
/// Signed is what becomes the message's data: the body of a POST, the query of a GET.
///
/// # Errors
/// [`SignatureError`]: the request is to be refused, whatever the reason.
pub fn verify(
    signature: &WebhookSignature,
    secret: &Secret,
    request: &Request,
    now: Timestamp,
) -> Result<(), SignatureError> {
    let headers = &request.headers;
    let signed = request.signed();
    let tolerance_ms = signature
        .tolerance
        .map_or(WEBHOOK_TOLERANCE_MS_DEFAULT, |tolerance| tolerance.ms);
    if signature.scheme == SignatureScheme::StandardWebhooks {
        return verify_standard(secret, headers, signed, now, tolerance_ms);
    }
    let header = header_of(Some(signature)).expect("the scheme has one");
    let given = required(headers, header)?;
    match signature.scheme {
        SignatureScheme::Stripe => verify_stripe(secret, header, given, signed, now, tolerance_ms),
        SignatureScheme::Github => {
            let form = "`sha256=<64 hex digits>`";
            let digest = given.strip_prefix("sha256=").and_then(from_hex);
            let digest = digest.ok_or_else(|| malformed(header, form))?;
            is_right(secret.is_signature(&[signed], &digest))
        }
        SignatureScheme::Oih => {
            let form = "base64, or hex digits, of 32 bytes";
            let text = given.strip_prefix("sha256=").unwrap_or(given);
            let digest = from_hex(text).or_else(|| BASE64.decode(text).ok());
            let digest = digest.ok_or_else(|| malformed(header, form))?;
            is_right(secret.is_signature(&[signed], &digest))
        }
        SignatureScheme::StandardWebhooks => unreachable!("returned above"),
    }
}

fn verify_standard(
    secret: &Secret,
    headers: &Headers,
    signed: &[u8],
    now: Timestamp,
    tolerance_ms: u64,
) -> Result<(), SignatureError> {
    let id = required(headers, STANDARD_ID)?;
    let time = required(headers, STANDARD_TIMESTAMP)?;
    let signatures = required(headers, STANDARD_SIGNATURE)?;
    check_time(STANDARD_TIMESTAMP, time, now, tolerance_ms)?;
    let parts = [id.as_bytes(), b".", time.as_bytes(), b".", signed];
    // A sender that changes its secret signs with both, so there may be several.
    let is_signed = signatures
        .split([' ', '\t'])
        .map(|signature| signature.trim_end_matches(','))
        .filter_map(|signature| signature.strip_prefix("v1,"))
        .take(WEBHOOK_SIGNATURES_MAX)
        .filter_map(|signature| BASE64.decode(signature).ok())
        .any(|digest| secret.is_signature(&parts, &digest));
    is_right(is_signed)
}

fn verify_stripe(
    secret: &Secret,
    header: &str,
    given: &str,
    signed: &[u8],
    now: Timestamp,
    tolerance_ms: u64,
) -> Result<(), SignatureError> {
    let fields = || {
        given
            .split(',')
            .filter_map(|field| field.trim().split_once('='))
    };
    let time = fields()
        .find(|(name, _)| *name == "t")
        .map(|(_, time)| time);
    let time = time.ok_or_else(|| malformed(header, "`t=<seconds>,v1=<hex>`"))?;
    check_time(header, time, now, tolerance_ms)?;
    let parts = [time.as_bytes(), b".", signed];
    let is_signed = fields()
        .filter(|(name, _)| *name == "v1")
        .take(WEBHOOK_SIGNATURES_MAX)
        .filter_map(|(_, signature)| from_hex(signature))
        .any(|digest| secret.is_signature(&parts, &digest));
    is_right(is_signed)
}

fn check_time(
    header: &str,
    seconds: &str,
    now: Timestamp,
    tolerance_ms: u64,
) -> Result<(), SignatureError> {
    let at = seconds
        .parse::<i64>()
        .ok()
        .and_then(|seconds| seconds.checked_mul(1_000))
        .ok_or_else(|| malformed(header, "seconds since 1970"))?;
    let away_ms = now.as_millis().abs_diff(at);
    if away_ms > tolerance_ms {
        return Err(SignatureError::TimeOff {
            seconds: away_ms / 1_000,
            tolerance_seconds: tolerance_ms / 1_000,
        });
    }
    Ok(())
}

fn required<'h>(headers: &'h Headers, name: &str) -> Result<&'h str, SignatureError> {
    headers
        .get(name)
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| SignatureError::Missing(name.to_owned()))
}

fn malformed(header: &str, form: &'static str) -> SignatureError {
    SignatureError::Malformed {
        header: header.to_owned(),
        form,
    }
}

fn is_right(is_signed: bool) -> Result<(), SignatureError> {
    if is_signed {
        Ok(())
    } else {
        Err(SignatureError::Wrong)
    }
}

/// The 32 bytes of 64 hex digits.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 {
        return None;
    }
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).ok();
    digits?.chunks_exact(2).map(byte).collect()
}
