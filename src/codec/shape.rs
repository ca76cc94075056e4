//! The fingerprint of a value's shape: the names of its structs, fields and variants, and the types between them, in
//! order, without the values.
//!
//! It is taken by writing the value with a serializer that keeps no value. The fingerprint of a value that was read
//! back equals the stored one exactly if it was read into the shape that was written; bincode alone would read two
//! swapped numbers without a word.
//!
//! Of a list or map only the first element counts: the others are of the same type, and a state of a million entries
//! would cost a million steps. Which one is the first is a matter of chance in a hash map, so inside of elements
//! nothing counts that differs from one to the next: which variant of an enum, and what stands in an inner list.

use serde::Serialize;
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::envelope::Unreadable;

/// The fingerprint of this value's shape.
pub(super) fn of<T: Serialize + ?Sized>(value: &T) -> Result<u64, Unreadable> {
    let mut shape = Shape { hash: 0xcbf2_9ce4_8422_2325, inside: false };
    value.serialize(&mut shape).map_err(|error| Unreadable::Unwritable(error.0))?;
    Ok(shape.hash)
}

/// FNV-1a, which needs no table and no crate and never changes.
struct Shape {
    hash: u64,
    /// Inside of an element.
    inside: bool,
}

impl Shape {
    fn variant(&mut self, name: &str, variant: &str) {
        self.note(name);
        if !self.inside {
            self.note(variant);
        }
    }

    fn note(&mut self, word: &str) {
        // The zero byte keeps `ab`, `c` apart from `a`, `bc`.
        for byte in word.bytes().chain([0]) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl serde::ser::Error for Refused {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

type Done = Result<(), Refused>;

macro_rules! scalars {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, _: $type) -> Done {
            self.note(stringify!($type));
            Ok(())
        })*
    };
}

impl<'a> Serializer for &'a mut Shape {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = &'a mut Shape;
    type SerializeTupleStruct = &'a mut Shape;
    type SerializeTupleVariant = Fields<'a>;
    type SerializeMap = Elements<'a>;
    type SerializeStruct = &'a mut Shape;
    type SerializeStructVariant = Fields<'a>;

    scalars!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64, serialize_char: char, serialize_str: &str,
        serialize_bytes: &[u8]
    );

    fn serialize_none(self) -> Done {
        self.note(if self.inside { "option" } else { "none" });
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        if self.inside {
            return self.serialize_none();
        }
        self.note("some");
        value.serialize(self)
    }

    fn serialize_unit(self) -> Done {
        self.note("unit");
        Ok(())
    }

    fn serialize_unit_struct(self, name: &'static str) -> Done {
        self.note(name);
        Ok(())
    }

    fn serialize_unit_variant(self, name: &'static str, _: u32, variant: &'static str) -> Done {
        self.variant(name, variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Done {
        self.note(name);
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Done {
        self.variant(name, variant);
        if self.inside { Ok(()) } else { value.serialize(self) }
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Elements<'a>, Refused> {
        // bincode refuses it too, but later and with fewer words.
        length.ok_or_else(|| Refused::custom("a list of unknown length"))?;
        self.note("list");
        Ok(Elements { first: !self.inside, shape: self })
    }

    fn serialize_tuple(self, _: usize) -> Result<&'a mut Shape, Refused> {
        self.note("tuple");
        Ok(self)
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<&'a mut Shape, Refused> {
        self.note(name);
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, Refused> {
        self.variant(name, variant);
        Ok(Fields { counts: !self.inside, shape: self })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Elements<'a>, Refused> {
        self.note("map");
        Ok(Elements { first: !self.inside, shape: self })
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<&'a mut Shape, Refused> {
        self.note(name);
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, Refused> {
        self.variant(name, variant);
        Ok(Fields { counts: !self.inside, shape: self })
    }

    fn is_human_readable(&self) -> bool {
        // As bincode says of itself: types such as addresses are written differently otherwise.
        false
    }
}

/// A list or a map: its first entry stands for all.
struct Elements<'a> {
    shape: &'a mut Shape,
    first: bool,
}

impl Elements<'_> {
    fn look<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        if !self.first {
            return Ok(());
        }
        self.shape.inside = true;
        let done = value.serialize(&mut *self.shape);
        self.shape.inside = false;
        done
    }
}

impl SerializeSeq for Elements<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        let done = self.look(value);
        self.first = false;
        done
    }

    fn end(self) -> Done {
        Ok(())
    }
}

impl SerializeMap for Elements<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.look(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        let done = self.look(value);
        self.first = false;
        done
    }

    fn end(self) -> Done {
        Ok(())
    }
}

/// What stands in a variant of an enum.
struct Fields<'a> {
    shape: &'a mut Shape,
    counts: bool,
}

impl SerializeTupleVariant for Fields<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        if self.counts { value.serialize(&mut *self.shape) } else { Ok(()) }
    }

    fn end(self) -> Done {
        Ok(())
    }
}

impl SerializeStructVariant for Fields<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Done {
        if !self.counts {
            return Ok(());
        }
        self.shape.note(key);
        value.serialize(&mut *self.shape)
    }

    fn end(self) -> Done {
        Ok(())
    }
}

impl SerializeStruct for &mut Shape {
    type Ok = ();
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Done {
        self.note(key);
        value.serialize(&mut **self)
    }

    fn end(self) -> Done {
        Ok(())
    }
}

impl SerializeTuple for &mut Shape {
    type Ok = ();
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        value.serialize(&mut **self)
    }

    fn end(self) -> Done {
        Ok(())
    }
}

impl SerializeTupleStruct for &mut Shape {
    type Ok = ();
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        value.serialize(&mut **self)
    }

    fn end(self) -> Done {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[derive(Serialize)]
    enum Job {
        Idle,
        Busy { since: u64 },
    }

    #[test]
    fn values_of_one_type_differ_only_where_their_shape_does() {
        assert_eq!(of(&[1_u8, 2, 3].as_slice()).unwrap(), of(&[9_u8].as_slice()).unwrap());
        assert_ne!(of(&(1_u8, 2_u16)).unwrap(), of(&(1_u16, 2_u8)).unwrap());
        assert_ne!(of(&Job::Idle).unwrap(), of(&Job::Busy { since: 1 }).unwrap());
    }

    #[test]
    fn the_order_of_a_hash_map_does_not_matter() {
        let jobs = |turn: u32| -> HashMap<u32, (Job, Vec<u32>, Option<u8>)> {
            let job =
                |at: u32| if (at + turn).is_multiple_of(2) { Job::Idle } else { Job::Busy { since: 7 } };
            (0..8).map(|at| (at, (job(at), vec![1; at as usize % 2], (at % 3 == 0).then_some(1)))).collect()
        };
        assert_eq!(of(&jobs(0)).unwrap(), of(&jobs(1)).unwrap());
        let words: HashSet<Option<&str>> = [None, Some("a")].into();
        assert_eq!(of(&words).unwrap(), of(&HashSet::from([Some("b")])).unwrap());
    }
}
