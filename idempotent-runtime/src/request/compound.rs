//! The compound traits of serde's data model, for a serializer that writes all sequences, and all structs, in one way.

/// Implements serde's traits for sequences, or for structs, by a method that writes a part, and one that ends the whole.
macro_rules! compound {
    ($error:ty, $type:ident, $end:expr, $($trait:ident $method:ident ($($name:ident: $name_type:ty)?) => $write:ident),*) => {$(
        impl serde::ser::$trait for $type<'_> {
            type Ok = ();
            type Error = $error;

            #[inline]
            fn $method<T: serde::Serialize + ?Sized>(
                &mut self,
                $($name: $name_type,)?
                value: &T,
            ) -> Result<(), $error> {
                self.$write($($name,)? value)
            }

            fn end(self) -> Result<(), $error> {
                $end(self)
            }
        }
    )*};
}

macro_rules! compound_sequence {
    ($error:ty, $type:ident, $end:expr) => {
        $crate::request::compound::compound!(
            $error, $type, $end,
            SerializeSeq serialize_element() => element,
            SerializeTuple serialize_element() => element,
            SerializeTupleStruct serialize_field() => element,
            SerializeTupleVariant serialize_field() => element
        );
    };
}

macro_rules! compound_struct {
    ($error:ty, $type:ident, $end:expr) => {
        $crate::request::compound::compound!(
            $error, $type, $end,
            SerializeStruct serialize_field(name: &'static str) => field,
            SerializeStructVariant serialize_field(name: &'static str) => field
        );
    };
}

pub(super) use {compound, compound_sequence, compound_struct};
