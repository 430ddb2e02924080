//! Finds the fields that a type asks for when it is deserialized, by standing in for the deserializer.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};
use toml::Value;

type Found = Rc<RefCell<BTreeSet<String>>>;

/// The dotted keys of all fields of `T` that are no structs themselves, in order; values come from `text`.
pub(super) fn fields_of<T: DeserializeOwned>(text: &str) -> Vec<String> {
    let found = Found::default();
    let value = Value::Table(text.parse().expect("the text is TOML"));
    T::deserialize(Watcher { value, path: String::new(), found: Rc::clone(&found) }).expect("the text fits the type");
    found.take().into_iter().collect()
}

struct Watcher {
    value: Value,
    path: String,
    found: Found,
}

impl<'de> Deserializer<'de> for Watcher {
    type Error = toml::de::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.value.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self.value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.value.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.found.borrow_mut().remove(&self.path);
        let path = |field: &str| if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) };
        self.found.borrow_mut().extend(fields.iter().map(|field| path(field)));
        let Value::Table(mut table) = self.value else { return self.value.deserialize_any(visitor) };
        let present = fields.iter().filter_map(|field| {
            let value = table.remove(*field)?;
            Some((*field, Watcher { value, path: path(field), found: Rc::clone(&self.found) }))
        });
        let present: Vec<_> = present.collect();
        visitor.visit_map(Fields { rest: present.into_iter(), value: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Fields {
    rest: std::vec::IntoIter<(&'static str, Watcher)>,
    value: Option<Watcher>,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = toml::de::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        let Some((field, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        let field: StrDeserializer<'_, Self::Error> = field.into_deserializer();
        seed.deserialize(field).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        seed.deserialize(self.value.take().expect("a value follows its key"))
    }
}
