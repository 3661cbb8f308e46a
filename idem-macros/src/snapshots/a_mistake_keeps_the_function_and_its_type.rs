async fn bill(event: OrderPlaced, tx: &mut PgConnection) -> Result<(), Error> {
    insert(event, tx).await
}
enum bill {}
::core::compile_error! {
    "`kye` is not a word of `#[idempotent]`; did you mean `key`?"
}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "";
    fn needs(_: &mut ::idem::__private::Needs) {}
    fn key(_: &OrderPlaced, _: ::idem::__private::Msg) -> ::idem::__private::Keyed {
        loop {}
    }
    async fn handle(
        _: ::idem::__private::One<OrderPlaced>,
        _: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Handled {
        loop {}
    }
}
impl ::idem::__private::Subscriber for bill {
    const TOPICS: ::idem::__private::Texts = &[];
    fn decode(_: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
        loop {}
    }
}
impl ::idem::__private::KeyedByEvent for bill {}
impl bill {
    async fn process(
        _: &<Self as ::idem::__private::Handler>::Store,
        _: OrderPlaced,
    ) -> ::idem::__private::Processed {
        loop {}
    }
}
