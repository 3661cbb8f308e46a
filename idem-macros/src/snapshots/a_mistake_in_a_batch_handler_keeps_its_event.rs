async fn bill(events: std::vec::Vec<OrderPlaced>) -> Result<(), Error> {
    insert(events).await
}
enum bill {}
::core::compile_error! {
    "`retry()` says nothing; name a part, such as `retry(max = 5)`, or leave it out"
}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::Many<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "";
    fn needs(_: &mut ::idem::__private::Needs) {}
    fn key(_: &OrderPlaced, _: ::idem::__private::Msg) -> ::idem::__private::Keyed {
        loop {}
    }
    async fn handle(
        _: ::idem::__private::Many<OrderPlaced>,
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
