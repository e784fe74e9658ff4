package tmpstress
import ("testing";"time";"fmt";"context"
"github.com/ThreeDotsLabs/watermill/message"
"github.com/motifmq/motif/adapters"
"github.com/motifmq/motif/adapters/amqp"
"github.com/motifmq/motif/internal/rabbitmqtest")
func TestMain(m *testing.M) { rabbitmqtest.Main(m) }
func TestLadder(t *testing.T) {
	n := rabbitmqtest.Shared(t)
	cfg, _ := amqp.ParseURL(n.URL)
	d, err := amqp.Connect(t.Context(), cfg)
	if err != nil { t.Fatal(err) }
	defer d.Close(context.Background())
	sub, err := d.Subscribe(t.Context(), adapters.Source{Endpoint: adapters.Endpoint{Name: "q1"}, Prefetch: 1})
	if err != nil { t.Fatal(err) }
	top := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Topic, Name: "top"}, Key: "a", Delay: 100*time.Millisecond}
	for i := range 40 {
		if err := d.Publish(t.Context(), top, message.NewMessage(fmt.Sprint(i), nil)); err != nil { t.Fatal(err) }
	}
	time.Sleep(time.Second)
	if err := d.Publish(t.Context(), adapters.Publication{To: adapters.Endpoint{Name: "q1"}, Delay: 100*time.Millisecond}, message.NewMessage("x", nil)); err != nil { t.Fatal(err) }
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	start := time.Now()
	m, err := sub.Receive(ctx)
	t.Log(m.Message, err, time.Since(start))
	qs, _ := n.Queues(t.Context())
	for _, q := range qs { t.Log(q) }
}
