//! Values with units and notations of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A number of bytes. It is written as a whole number of K, M, G or T: powers of 1024, as QEMU counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// One mebibyte.
const MEBIBYTE: u64 = 1 << 20;
/// Letters of the units, each 1024 times the one before.
const UNITS: [char; 4] = ['K', 'M', 'G', 'T'];

impl Size {
    /// So many mebibytes.
    #[must_use]
    pub const fn mebibytes(count: u64) -> Self {
        Self(count.saturating_mul(MEBIBYTE))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of whole mebibytes, the unit of QEMU's `-m`.
    #[must_use]
    pub const fn in_mebibytes(self) -> u64 {
        self.0 / MEBIBYTE
    }

    /// Reads `4G` or `4096M`; `GiB` means the same as `G`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a size: write a whole number and one of K, M, G, T, as in 4G");
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let count: u64 = digits.parse().map_err(|_| bad())?;
        let letter = unit.trim_start().trim_end_matches("iB").to_ascii_uppercase();
        let power = UNITS.iter().position(|known| letter == known.to_string()).ok_or_else(bad)?;
        let factor = (0..=power).fold(1_u64, |factor, _| factor * 1024);
        count.checked_mul(factor).map(Self).ok_or_else(|| format!("`{text}` is larger than any machine"))
    }
}

/// In the largest unit that divides it.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut rest, mut unit) = (self.0, None);
        for letter in UNITS {
            if rest == 0 || rest % 1024 != 0 {
                break;
            }
            rest /= 1024;
            unit = Some(letter);
        }
        write!(f, "{rest}{}", unit.map_or_else(|| "B".to_owned(), |letter| letter.to_string()))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text { what: "a size such as 4G or 512M", parse: Self::parse })
    }
}

/// A text in a notation of its own.
struct Text<T> {
    what: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

/// A length of time, written as a whole number of s, m or h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period(pub(super) Duration);

impl Period {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = || {
            format!("`{text}` is not a length of time: write a whole number and one of s, m, h, as in 30m")
        };
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let count: u64 = digits.parse().map_err(|_| bad())?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(bad()),
        };
        count.checked_mul(seconds).map(|seconds| Self(Duration::from_secs(seconds))).ok_or_else(bad)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text { what: "a length of time such as 30m or 90s", parse: Self::parse })
    }
}

/// Permission bits, written in octal with or without quotes (`0440`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode(pub(super) u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Octal;
        impl Visitor<'_> for Octal {
            type Value = Mode;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("permission bits in octal, such as 0440")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Mode, E> {
                let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
                match u32::from_str_radix(text, 8) {
                    Ok(mode) if digits && mode <= 0o777 => Ok(Mode(mode)),
                    _ => Err(E::custom(format!(
                        "`{text}` is not a mode: write the permission bits in octal, such as 0440"
                    ))),
                }
            }
            /// Without quotes and without a zero in front YAML sees a number: its digits are meant.
            fn visit_u64<E: Error>(self, number: u64) -> Result<Mode, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Octal)
    }
}

/// A text that may be written as a number or a boolean as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plain(pub(super) String);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Plain;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Plain, E> {
                Ok(Plain(text.into()))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Plain, E> {
                Ok(Plain(number.to_string()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Plain, E> {
                Ok(Plain(number.to_string()))
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Plain, E> {
                Ok(Plain(number.to_string()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

/// Something that has a short form, a scalar, and a long form, a mapping or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Either<S, L> {
    /// The scalar.
    Short(S),
    /// The mapping or list.
    Long(L),
}

/// Scalars are given to `S`, mappings and lists to `L`; whatever either refuses keeps its own message and place.
impl<'de, S: Deserialize<'de>, L: Deserialize<'de>> Deserialize<'de> for Either<S, L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both<S, L>(PhantomData<(S, L)>);
        impl<'de, S: Deserialize<'de>, L: Deserialize<'de>> Visitor<'de> for Both<S, L> {
            type Value = Either<S, L>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                S::deserialize(serde::de::value::BoolDeserializer::new(value)).map(Either::Short)
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                S::deserialize(serde::de::value::U64Deserializer::new(value)).map(Either::Short)
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                S::deserialize(serde::de::value::I64Deserializer::new(value)).map(Either::Short)
            }
            fn visit_u128<E: Error>(self, value: u128) -> Result<Self::Value, E> {
                Err(E::custom(format!("{value} is too large")))
            }
            fn visit_i128<E: Error>(self, value: i128) -> Result<Self::Value, E> {
                Err(E::custom(format!("{value} is too small")))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
                S::deserialize(serde::de::value::F64Deserializer::new(value)).map(Either::Short)
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                S::deserialize(serde::de::value::StrDeserializer::new(value)).map(Either::Short)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                L::deserialize(MapAccessDeserializer::new(map)).map(Either::Long)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                L::deserialize(ListDeserializer(list)).map(Either::Long)
            }
        }
        deserializer.deserialize_any(Both(PhantomData))
    }
}

/// A list for what wants one. What wants a mapping would take it for the mapping's values in their order.
struct ListDeserializer<A>(A);

impl<'de, A: SeqAccess<'de>> Deserializer<'de> for ListDeserializer<A> {
    type Error = A::Error;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_seq(self.0)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, A::Error> {
        Err(A::Error::custom("a list where one value or a mapping is expected"))
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A list of names, or a mapping of names to settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names<I, V> {
    /// The list.
    List(Vec<I>),
    /// The mapping; a name without settings (`null`) takes away what an extended host says.
    Map(BTreeMap<String, Option<V>>),
}

impl<'de, I: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Names<I, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both<I, V>(PhantomData<(I, V)>);
        impl<'de, I: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Both<I, V> {
            type Value = Names<I, V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or a mapping")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(Names::Map)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(Names::List)
            }
        }
        deserializer.deserialize_any(Both(PhantomData))
    }
}
