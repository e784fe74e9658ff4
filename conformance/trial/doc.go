// Package trial tries an adapter under faults: publishers and consumers are at work while the test
// stops, kills, freezes or cuts off the broker, every driver is recorded, and at the end the
// history says whether a message was lost, or came where it should not.
//
// A fault is a [Row], whose function makes it happen between two calls of [Trial.Flowing]:
//
//	var rows = []trial.Row{{Name: "kill-9", Fault: "broker killed -9 under load", Do: func(x *trial.Trial) {
//		d := x.Open("client", url)
//		x.Consume(x.Subscribe(d, trial.From("jobs", 50)), 2)
//		s := x.Stream(d, trial.To("jobs"), "job", 8, 256, 0)
//		x.Flowing("messages flow", 500, s)
//		kill(broker)
//		start(broker)
//		x.Flowing("messages flow again", 500, s)
//		x.Finish(s)
//	}}}
//
//	func TestFaults(t *testing.T) { trial.Run(t, rows, 4) }
//
// [Run] prints a table of all rows with what became of their messages. Nothing is bounded by how
// fast the machine is: rows wait for as long as messages move.
package trial
