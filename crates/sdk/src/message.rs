//! JSON in and out of the API's messages.

use serde::de::DeserializeOwned;
use serde_json::Value;
use tidemill_proto::v1::Message;

/// What [`Message`] carries as bytes, as JSON.
pub trait MessageJson: Sized {
    /// A message with this data and nothing else.
    fn from_json(data: &Value) -> Self;

    /// The data; nothing at all reads as `null`.
    ///
    /// # Errors
    /// When the data is not JSON, or not of that type.
    fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error>;
}

impl MessageJson for Message {
    fn from_json(data: &Value) -> Self {
        Self {
            data: data.to_string().into(),
            ..Self::default()
        }
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        parse(&self.data)
    }
}

/// Reads JSON, taking no bytes for `null`: protobuf does not tell empty from absent.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(if bytes.is_empty() { b"null" } else { bytes })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_round_trips_and_nothing_is_null() {
        let data = json!({"a": [1, "ü"]});
        assert_eq!(Message::from_json(&data).json::<Value>().unwrap(), data);
        assert_eq!(Message::default().json::<Value>().unwrap(), Value::Null);
        let bad = Message {
            data: "{".into(),
            ..Message::default()
        };
        assert!(bad.json::<Value>().is_err());
    }
}
