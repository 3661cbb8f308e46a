async fn bill(event: OrderPlaced) -> Result<(), Error> {
    insert(event).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "bill";
    const KEY: ::idem::__private::KeySource = ::idem::__private::KeySource::Message;
    fn needs(_: &mut ::idem::__private::Needs) {}
    fn key(
        event: &OrderPlaced,
        source: ::idem::__private::Msg,
    ) -> ::idem::__private::Keyed {
        let [event1] = [event; 1usize];
        ::idem::__private::Key::composite(
            &[
                ::idem::__private::key_part(&event1.tenant),
                ::idem::__private::key_part(
                    &::idem::__private::header_part(source, "id")?,
                ),
                ::idem::__private::key_part(
                    &::idem::__private::message_key_part(source)?,
                ),
                ::idem::__private::key_part(
                    &::idem::__private::content_key(
                        source,
                        ::idem::__private::Content::only(&["a"]).optional(&["b"]),
                    )?,
                ),
                ::idem::__private::key_part(
                    &::idem::__private::made_by(event, Order::key),
                ),
            ],
        )
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
    fn decode(event: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
        ::idem::__private::decode_json::<OrderPlaced>(event)
    }
}
impl bill {
    /// Runs the handler once for the key of the event, as `idem::Processor::process` does.
    async fn process(
        store: &<Self as ::idem::__private::Handler>::Store,
        event: OrderPlaced,
    ) -> ::idem::__private::Processed
    where
        for<'a> Self: ::idem::__private::KeyedByEvent,
    {
        ::idem::__private::process::<Self>(store, event).await
    }
}
