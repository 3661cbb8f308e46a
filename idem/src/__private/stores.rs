//! The stores that the attribute knows by name.
//!
//! Macros in the place of types: where a feature is off, the name is an error that says so, and of
//! an error the compiler asks nothing more. (In the length of an array, because in the place of a
//! type an error becomes `()`, of which it asks a lot.)

pub use crate::{__idem_store_postgres as postgres, __idem_store_sqlite as sqlite};

#[cfg(feature = "postgres")]
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_store_postgres {
    () => {
        $crate::postgres::Postgres
    };
}

#[cfg(not(feature = "postgres"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_store_postgres {
    () => {
        [(); ::core::compile_error!(
            "the store \"postgres\" needs a feature of idem: \
             `cargo add idem-kafka --features postgres`"
        )]
    };
}

#[cfg(feature = "sqlite")]
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_store_sqlite {
    () => {
        $crate::sqlite::Sqlite
    };
}

#[cfg(not(feature = "sqlite"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_store_sqlite {
    () => {
        [(); ::core::compile_error!(
            "the store \"sqlite\" needs a feature of idem: `cargo add idem-kafka --features sqlite`"
        )]
    };
}
