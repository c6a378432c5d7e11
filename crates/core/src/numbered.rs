//! Small numbers with names: one definition gives the type, its names and the way back.
//!
//! Such numbers are stored in records and shown by name, so none is ever reused, and an unknown one
//! is an error that says so, never another meaning.

/// Defines an enum of stored numbers, each with the name under which it is shown:
/// `Variant = number, "name";`. It gets `ALL`, `NAMES` (by number, empty where there is none),
/// `name`, `from_name`, and `TryFrom<u8>`.
#[macro_export]
macro_rules! numbered {
    (
        $(#[$meta:meta])*
        pub enum $Type:ident {
            $($(#[$doc:meta])* $Variant:ident = $number:literal, $name:literal;)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum $Type {
            $($(#[$doc])* $Variant = $number,)+
        }

        impl $Type {
            /// All of them, in the order in which they are defined.
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];

            /// Their names by number; empty for a number that has none.
            pub const NAMES: &'static [&'static str] = {
                const LENGTH: usize = {
                    let mut length = 0;
                    $(if $number >= length { length = $number + 1; })+
                    length
                };
                const NAMES: [&str; LENGTH] = {
                    let mut names = [""; LENGTH];
                    $(
                        assert!(names[$number].is_empty(), "two variants have one number");
                        names[$number] = $name;
                    )+
                    names
                };
                &NAMES
            };

            /// The stable name, as shown in columns and listings.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$Variant => $name,)+
                }
            }

            /// The one of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }

        impl TryFrom<u8> for $Type {
            type Error = $crate::error::Error;

            fn try_from(number: u8) -> $crate::error::Result<Self> {
                match number {
                    $($number => Ok(Self::$Variant),)+
                    _ => Err($crate::error::Error::invalid(format!(
                        concat!(stringify!($Type), " {} is not known to this build"),
                        number
                    ))),
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    numbered! {
        /// With a hole in its numbers.
        pub enum Sample {
            /// The first.
            First = 1, "first";
            /// The last.
            Last = 4, "last";
        }
    }

    #[test]
    fn one_line_gives_number_name_and_the_way_back() {
        assert_eq!(Sample::NAMES, ["", "first", "", "", "last"]);
        for &one in Sample::ALL {
            assert_eq!(Sample::try_from(one as u8).unwrap(), one);
            assert_eq!(Sample::from_name(one.name()), Some(one));
        }
        let error = Sample::try_from(2).unwrap_err().to_string();
        assert_eq!(error, "Sample 2 is not known to this build");
        assert_eq!(Sample::from_name(""), None);
    }
}
