async fn bill(event: OrderPlaced) -> Result<(), Error> {
    insert(event).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "bill";
    fn needs(_: &mut ::idem::__private::Needs) {}
    fn key(event: &OrderPlaced, _: ::idem::__private::Msg) -> ::idem::__private::Keyed {
        ::idem::__private::Key::of(&event.event_id)
    }
    async fn handle(
        ::idem::__private::One(event): ::idem::__private::One<OrderPlaced>,
        _: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Handled {
        ::idem::__private::finish::<Result<(), Error>>(bill(event).await)
    }
}
impl ::idem::__private::Subscriber for bill {
    const TOPICS: ::idem::__private::Texts = &["orders"];
    const SCHEMA: ::idem::__private::SchemaId = ::idem::__private::formats::avro_schema!();
    fn decode(event: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
        ::idem::__private::formats::avro!(OrderPlaced, event)
    }
}
impl ::idem::__private::KeyedByEvent for bill {}
impl bill {
    /// Runs the handler once for the key of the event, as `idem::Processor::process` does.
    async fn process(
        store: &<Self as ::idem::__private::Handler>::Store,
        event: OrderPlaced,
    ) -> ::idem::__private::Processed {
        ::idem::__private::process::<Self>(store, event).await
    }
}
