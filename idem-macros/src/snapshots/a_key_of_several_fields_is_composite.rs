async fn bill(event: OrderPlaced, tx: &mut Db) -> Result<(), Error> {
    insert(event, tx).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = db::Store;
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "s";
    fn needs(needs: &mut ::idem::__private::Needs) {
        <&mut Db as ::idem::__private::Param<'_, Self>>::needs(needs);
    }
    fn key(event: &OrderPlaced, _: ::idem::__private::Msg) -> ::idem::__private::Keyed {
        let [event1, event2] = [event; 2usize];
        ::idem::__private::Key::composite(
            &[
                ::idem::__private::key_part(&event1.tenant),
                ::idem::__private::key_part(&event2.order.id),
            ],
        )
    }
    async fn handle(
        ::idem::__private::One(event): ::idem::__private::One<OrderPlaced>,
        mut call: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Handled {
        let param1 = <&mut Db as ::idem::__private::Param<'_, Self>>::take(&mut call)?;
        ::idem::__private::finish::<Result<(), Error>>(bill(event, param1).await)
    }
}
impl ::idem::__private::Subscriber for bill {
    const TOPICS: ::idem::__private::Texts = &["a", "b"];
    fn decode(event: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
        ::idem::__private::decode_json::<OrderPlaced>(event)
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
