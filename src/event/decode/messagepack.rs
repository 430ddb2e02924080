//! MessagePack as JSON: what JSON cannot say is refused rather than bent.
//!
//! Binary data, extension types, keys that are no text, infinite numbers and NaN, and bytes after the end are all errors.

use std::{fmt, io::Write};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{MAX_DEPTH, MAX_EVENT_BYTES, Reject};

/// Writes the JSON of `payload` into `json`, which is emptied first.
pub(super) fn transcode(payload: &[u8], json: &mut Vec<u8>) -> Result<(), Reject> {
    json.clear();
    let mut deserializer = rmp_serde::Deserializer::new(payload);
    // One more than allowed, so that JSON's own check names the limit.
    deserializer.set_max_depth(MAX_DEPTH + 2);
    let result = Value { json: &mut *json }.deserialize(&mut deserializer);
    if json.len() > MAX_EVENT_BYTES {
        return Err(Reject::Oversize { bytes: json.len(), limit: MAX_EVENT_BYTES });
    }
    match result {
        Ok(()) if deserializer.get_ref().is_empty() => Ok(()),
        Ok(()) => Err(Reject::NotMessagePack { problem: "more bytes follow the first value".to_owned() }),
        Err(rmp_serde::decode::Error::DepthLimitExceeded) => Err(Reject::TooDeep { limit: MAX_DEPTH }),
        Err(error) => Err(Reject::NotMessagePack { problem: error.to_string() }),
    }
}

/// One value, written at the end of `json`.
struct Value<'w> {
    json: &'w mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // Its text may still grow by what the last value adds; the caller looks at the length once more.
        if self.json.len() > MAX_EVENT_BYTES {
            return Err(D::Error::custom("its JSON is too long"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value that JSON can say")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.json.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.json.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        write!(self.json, "{value}").map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        write!(self.json, "{value}").map_err(E::custom)
    }

    fn visit_f32<E: Error>(self, value: f32) -> Result<(), E> {
        if value.is_finite() {
            serde_json::to_writer(self.json, &value).map_err(E::custom)
        } else {
            Err(E::custom("a number is not finite"))
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if value.is_finite() {
            serde_json::to_writer(self.json, &value).map_err(E::custom)
        } else {
            Err(E::custom("a number is not finite"))
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        serde_json::to_writer(self.json, value).map_err(E::custom)
    }

    fn visit_bytes<E: Error>(self, _value: &[u8]) -> Result<(), E> {
        Err(E::custom("it holds binary data"))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, _deserializer: D) -> Result<(), D::Error> {
        Err(D::Error::custom("it holds an extension type"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let start = self.json.len();
        self.json.push(b'[');
        while sequence.next_element_seed(Value { json: &mut *self.json })?.is_some() {
            self.json.push(b',');
        }
        close(self.json, start, b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let start = self.json.len();
        self.json.push(b'{');
        while map.next_key_seed(Key { json: &mut *self.json })?.is_some() {
            self.json.push(b':');
            map.next_value_seed(Value { json: &mut *self.json })?;
            self.json.push(b',');
        }
        close(self.json, start, b'}');
        Ok(())
    }
}

/// Puts the closing bracket where the last comma stands, or after the opening one.
fn close(json: &mut Vec<u8>, start: usize, bracket: u8) {
    if json.len() > start + 1 {
        json.pop();
    }
    json.push(bracket);
}

/// A map's key: text and nothing else.
struct Key<'w> {
    json: &'w mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // The error of another kind of key would quote it.
        deserializer.deserialize_any(self).map_err(|_| D::Error::custom("a key is missing or not a text"))
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text as key")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        serde_json::to_writer(self.json, value).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn json_of(payload: &[u8]) -> Result<String, Reject> {
        let mut json = b"old".to_vec();
        transcode(payload, &mut json).map(|()| String::from_utf8(json).unwrap())
    }

    #[track_caller]
    fn check_problem(payload: &[u8], part: &str) {
        match json_of(payload) {
            Err(Reject::NotMessagePack { problem }) => assert!(problem.contains(part), "{problem}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_keep_their_meaning() {
        let value = json!({
            "event": "login", "properties": {"a": [1, -2, 1.5, true, null, [], {}, "é\"\n"], "b": u64::MAX, "c": i64::MIN}
        });
        let text = json_of(&rmp_serde::to_vec_named(&value).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert_eq!(json_of(&[0x80]).unwrap(), "{}");
        assert_eq!(json_of(&[0xca, 0x3f, 0x00, 0x00, 0x00]).unwrap(), "0.5");
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        check_problem(&[0x81, 0xa1, b'a', 0xc4, 1, 0], "binary");
        check_problem(&[0x81, 0xa1, b'a', 0xd4, 1, 0], "extension");
        check_problem(&[0x81, 0xa1, b'a', 0xd6, 0xff, 0, 0, 0, 0], "extension");
        check_problem(&[0x81, 0x01, 0xc0], "a key is");
        check_problem(&[0x81, 0xc0, 0xc0], "a key is");
        check_problem(&[0x81, 0xc4, 1, b'a', 0xc0], "a key is");
        check_problem(&[0x81, 0xa1, b'a', 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0], "finite");
        check_problem(&[0x81, 0xa1, b'a', 0xca, 0x7f, 0x80, 0, 0], "finite");
        check_problem(&[0x81, 0xa1, b'a', 0xa1, 0xff], "utf-8");
        check_problem(&[0x80, 0x80], "more bytes");
        check_problem(&[], "");
        check_problem(&[0x81, 0xa1, b'a'], "");
        check_problem(&[0xc1], "");
    }

    #[test]
    fn lengths_that_lie_cost_nothing() {
        check_problem(&[0xdd, 0xff, 0xff, 0xff, 0xff], "");
        check_problem(&[0xdf, 0xff, 0xff, 0xff, 0xff], "");
        check_problem(&[0x81, 0xdb, 0xff, 0xff, 0xff, 0xff, b'a'], "");
        check_problem(&[0x81, 0xc6, 0xff, 0xff, 0xff, 0xff, b'a'], "");
    }

    #[test]
    fn deep_and_swelling_values_are_refused() {
        assert_eq!(json_of(&[0x91; 32_000]), Err(Reject::TooDeep { limit: MAX_DEPTH }));
        let mut nulls = vec![0xdc, 0x75, 0x30];
        nulls.resize(30_003, 0xc0);
        assert!(matches!(json_of(&nulls), Err(Reject::Oversize { .. })));
        let mut controls = vec![0xda, 0x75, 0x30];
        controls.resize(30_003, 0x01);
        assert!(matches!(json_of(&controls), Err(Reject::Oversize { bytes: 180_002, .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_give_json_or_a_reason(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(text) = json_of(&payload) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
