async fn bill(events: Vec<Option<OrderPlaced>>) -> Result<(), Error> {
    insert(events).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::Many<Option<OrderPlaced>>;
    const SCOPE: ::idem::__private::Text = "bill";
    const KEY: ::idem::__private::KeySource = ::idem::__private::KeySource::Message;
    fn needs(_: &mut ::idem::__private::Needs) {}
    fn key(
        _: &Option<OrderPlaced>,
        source: ::idem::__private::Msg,
    ) -> ::idem::__private::Keyed {
        ::idem::__private::key_of_header(source, "id")
    }
    async fn handle(
        ::idem::__private::Many(events): ::idem::__private::Many<Option<OrderPlaced>>,
        _: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Handled {
        ::idem::__private::finish::<Result<(), Error>>(bill(events).await)
    }
}
impl ::idem::__private::Subscriber for bill {
    const TOPICS: ::idem::__private::Texts = &["orders"];
    fn decode(event: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
        ::idem::__private::optional(
            event,
            |event| {
                ::idem::__private::formats::protobuf_registry!(
                    OrderPlaced, event, [1u32, 0u32]
                )
            },
        )
    }
}
impl bill {
    /// Runs the handler once for the key of the event, as `idem::Processor::process` does.
    async fn process(
        store: &<Self as ::idem::__private::Handler>::Store,
        event: Option<OrderPlaced>,
    ) -> ::idem::__private::Processed
    where
        for<'a> Self: ::idem::__private::KeyedByEvent,
    {
        ::idem::__private::process::<Self>(store, event).await
    }
}
