//! Metadata values: scalars, strings, and arrays of one scalar type or of strings.

use crate::error::{GgufFlaw, Result};

use super::tensor_source::Source;

/// The number of the array type in a file.
const ARRAY_ID: u32 = 9;

/// A scalar or a string in a file. One trait reads and writes it, so that reader and writer cannot disagree.
trait Element: Sized {
    /// The fewest bytes that one element takes. A count is checked against it before anything is allocated.
    const MIN_BYTES: u64;

    fn read(source: &mut Source<'_>) -> Result<Self>;

    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! number_elements {
    ($($type:ty)*) => {$(
        impl Element for $type {
            const MIN_BYTES: u64 = size_of::<$type>() as u64;

            fn read(source: &mut Source<'_>) -> Result<Self> {
                Ok(Self::from_le_bytes(source.take()?))
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        }
    )*};
}

number_elements! { u8 i8 u16 i16 u32 i32 u64 i64 f32 f64 }

impl Element for bool {
    const MIN_BYTES: u64 = 1;

    fn read(source: &mut Source<'_>) -> Result<Self> {
        match u8::read(source)? {
            0 => Ok(false),
            1 => Ok(true),
            got => Err(source.refuse(|field| GgufFlaw::Bool { field, got })),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Element for String {
    const MIN_BYTES: u64 = 8;

    fn read(source: &mut Source<'_>) -> Result<Self> {
        source.string()
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_string(self, out);
    }
}

/// Writes a string as its length and its bytes.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    (text.len() as u64).write(out);
    out.extend(text.as_bytes());
}

/// Makes [`Value`] and [`Array`] from one table: variant, Rust type, number in the file, name in messages.
macro_rules! values {
    ($($variant:ident($type:ty) = $id:literal, $name:literal;)*) => {
        /// The value of a metadata key.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Value {
            $(#[doc = concat!("A `", stringify!($type), "`.")] $variant($type),)*
            /// An array of values of one type.
            Array(Array),
        }

        /// An array of values of one type. The format also has arrays of arrays; like ggml, this crate refuses them.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Array {
            $(#[doc = concat!("An array of `", stringify!($type), "`.")] $variant(Vec<$type>),)*
        }

        impl Value {
            /// The name of the type, for messages.
            #[must_use]
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                    Self::Array(_) => "array",
                }
            }

            /// Reads the number of a type, and then a value of that type.
            pub(super) fn read(source: &mut Source<'_>) -> Result<Self> {
                match u32::read(source)? {
                    $($id => Ok(Self::$variant(<$type>::read(source)?)),)*
                    ARRAY_ID => Ok(Self::Array(Array::read(source)?)),
                    id => Err(source.refuse(|field| GgufFlaw::ValueType { field, id })),
                }
            }

            /// Writes the type's number and the value.
            pub(super) fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(value) => {
                        u32::write(&$id, out);
                        value.write(out);
                    })*
                    Self::Array(array) => {
                        ARRAY_ID.write(out);
                        array.write(out);
                    }
                }
            }
        }

        impl Array {
            fn read(source: &mut Source<'_>) -> Result<Self> {
                match u32::read(source)? {
                    $($id => Ok(Self::$variant(read_elements(source)?)),)*
                    id => Err(source.refuse(|field| GgufFlaw::ValueType { field, id })),
                }
            }

            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(values) => {
                        u32::write(&$id, out);
                        (values.len() as u64).write(out);
                        for value in values {
                            value.write(out);
                        }
                    })*
                }
            }
        }

        $(
            impl From<$type> for Value {
                fn from(value: $type) -> Self {
                    Self::$variant(value)
                }
            }

            impl From<Vec<$type>> for Value {
                fn from(values: Vec<$type>) -> Self {
                    Self::Array(Array::$variant(values))
                }
            }
        )*
    };
}

values! {
    U8(u8) = 0, "u8";
    I8(i8) = 1, "i8";
    U16(u16) = 2, "u16";
    I16(i16) = 3, "i16";
    U32(u32) = 4, "u32";
    I32(i32) = 5, "i32";
    F32(f32) = 6, "f32";
    Bool(bool) = 7, "bool";
    String(String) = 8, "string";
    U64(u64) = 10, "u64";
    I64(i64) = 11, "i64";
    F64(f64) = 12, "f64";
}

/// Reads a count and then as many elements, once the file has proved long enough for them.
fn read_elements<T: Element>(source: &mut Source<'_>) -> Result<Vec<T>> {
    let count = u64::read(source)?;
    source.expect(count.saturating_mul(T::MIN_BYTES))?;
    (0..count).map(|_| T::read(source)).collect()
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl Value {
    /// The text, if this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if this is an integer that fits a `u32`. Its type may be any integer type, since converters differ
    /// in the type they choose.
    #[must_use]
    pub fn as_u32(&self) -> Option<u32> {
        match *self {
            Self::U8(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::U32(n) => Some(n),
            Self::U64(n) => n.try_into().ok(),
            Self::I8(n) => n.try_into().ok(),
            Self::I16(n) => n.try_into().ok(),
            Self::I32(n) => n.try_into().ok(),
            Self::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }

    /// The number, if this is an `f32`. Other types are not converted: llama.cpp ends the process where it finds one.
    #[must_use]
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Self::F32(x) => Some(x),
            _ => None,
        }
    }
}
