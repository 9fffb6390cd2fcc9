//! JSON objects that everybody reads alike.
//!
//! Clients written in Go match the names of members without regard to case. To them `"Layers"` are the layers of an
//! image, to this registry they would be nothing: it would neither look whether they are there nor keep them. So a name
//! that differs in nothing but case from one that counts is refused, as one that stands twice is.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What is read from an object.
pub(super) trait Members {
    /// The names that count.
    const NAMES: &'static [&'static str];
}

/// An object, and nothing that could be taken for one: a derived reader would take a list for it, too.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de> + Members> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Members> Visitor<'de> for Reader<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
                let named = Named { members, known: T::NAMES };
                T::deserialize(MapAccessDeserializer::new(named)).map(Object)
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

/// Members whose names are looked at before anybody else sees them.
struct Named<A> {
    members: A,
    known: &'static [&'static str],
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Named<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let Some(name) = self.members.next_key::<String>()? else { return Ok(None) };
        if let Some(known) = taken_for(&name, self.known) {
            return Err(A::Error::custom(Misspelt { name, known }));
        }
        let name: StringDeserializer<A::Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.members.next_value_seed(seed)
    }
}

/// A name that some take for another.
#[derive(Debug, thiserror::Error)]
#[error(
    "the member {name:?} must be written {known:?}: some clients would take it for that, and others would not"
)]
pub(super) struct Misspelt {
    pub(super) name: String,
    pub(super) known: &'static str,
}

/// Which of the known names, all of them ASCII, somebody takes this one for who does not look at case.
pub(super) fn taken_for(name: &str, known: &'static [&'static str]) -> Option<&'static str> {
    known.iter().copied().find(|known| *known != name && folded(name).eq(folded(known)))
}

/// Characters without their case. Two that are not ASCII fold to such as are (CaseFolding.txt of Unicode).
fn folded(name: &str) -> impl Iterator<Item = char> {
    name.chars().map(|letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug, PartialEq)]
    struct Layers {
        layers: Option<u64>,
    }

    impl Members for Layers {
        const NAMES: &'static [&'static str] = &["layers"];
    }

    fn read(text: &str) -> Result<Option<u64>, String> {
        let read = serde_json::from_str::<Object<Layers>>(text);
        read.map(|Object(read)| read.layers).map_err(|error| error.to_string())
    }

    #[test]
    fn members_are_read_by_their_names() {
        assert_eq!(read(r#"{"layers":1}"#), Ok(Some(1)));
        assert_eq!(read(r#"{"a":{"Layers":1},"layer":[2],"layers2":3}"#), Ok(None));
        assert_eq!(read(r#"{"\u006cayers":1}"#), Ok(Some(1)));
        assert!(read("[1]").unwrap_err().contains("invalid type: sequence, expected an object"));
        assert!(read(r#"{"layers":1,"layers":1}"#).unwrap_err().contains("duplicate field"));
    }

    #[test]
    fn a_name_that_another_reader_takes_for_one_that_counts_is_refused() {
        for name in ["Layers", "LAYERS", "layerS", "layer\u{17f}", "\\u004cayers"] {
            for text in [format!(r#"{{"{name}":1}}"#), format!(r#"{{"layers":1,"{name}":null}}"#)] {
                let told = read(&text).unwrap_err();
                assert!(told.contains(r#"must be written "layers""#), "{text}: {told}");
            }
        }
        assert_eq!(taken_for("blob\u{212a}", &["blobk"]), Some("blobk"));
    }
}
