package adapters

import (
	"errors"
	"testing"
	"time"
)

func TestPublicationValidate(t *testing.T) {
	queue, direct, topic := Endpoint{Queue, "q"}, Endpoint{Direct, "x"}, Endpoint{Topic, "x"}
	for name, p := range map[string]Publication{
		"queue":                     {To: queue},
		"queue, key carried":        {To: queue, Key: "usa.weather"},
		"fanout":                    {To: Endpoint{Fanout, "x"}},
		"direct":                    {To: direct, Key: "error"},
		"direct, no key":            {To: direct},
		"topic":                     {To: topic, Key: "usa.weather"},
		"topic, wildcards are text": {To: topic, Key: "a.*.#.#.#"},
		"reply":                     {To: Endpoint{Reply, "amq.gen-1"}},
		"amq.fanout":                {To: Endpoint{Fanout, "amq.fanout"}},
		"amq.topic":                 {To: Endpoint{Topic, "amq.topic"}, Key: "k"},
		"exchange":                  {To: Endpoint{Exchange, "audit"}},
		"amq.headers":               {To: Endpoint{Exchange, "amq.headers"}, Key: "k"},
		"longest name":              {To: Endpoint{Queue, atLimit}},
		"longest key":               {To: topic, Key: atLimit},
		"not ASCII":                 {To: Endpoint{Queue, "größe"}, Key: "日本"},
		"everything set": {
			To: queue, Delay: time.Hour,
			Properties: Properties{
				ContentType: atLimit, CorrelationID: atLimit, ReplyTo: atLimit,
				Attempt: 3, TTL: MaxTTL, Priority: 255, Transient: true,
			},
		},
		"mandatory": {To: queue, Mandatory: true},
	} {
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	for name, p := range map[string]Publication{
		"zero value":           {},
		"no name":              {To: Endpoint{Topic, ""}},
		"reply without name":   {To: Endpoint{Reply, ""}},
		"unknown kind":         {To: Endpoint{Exchange + 1, "q"}},
		"amq. queue":           {To: Endpoint{Queue, "amq.gen-1"}},
		"amq. exchange":        {To: Endpoint{Topic, "amq.direct"}, Key: "k"},
		"long name":            {To: Endpoint{Queue, overLimit}},
		"control in name":      {To: Endpoint{Queue, "a\nb"}},
		"DEL in name":          {To: Endpoint{Queue, "a\x7f"}},
		"C1 control in name":   {To: Endpoint{Queue, "a\u009b31m"}},
		"name not UTF-8":       {To: Endpoint{Queue, "a\xff"}},
		"key to fanout":        {To: Endpoint{Fanout, "x"}, Key: "k"},
		"key to reply":         {To: Endpoint{Reply, "r"}, Key: "k"},
		"long key":             {To: topic, Key: overLimit},
		"control in key":       {To: direct, Key: "\x00"},
		"key not UTF-8":        {To: direct, Key: "\xc3"},
		"negative delay":       {To: queue, Delay: -1},
		"negative TTL":         {To: queue, Properties: Properties{TTL: -1}},
		"long TTL":             {To: queue, Properties: Properties{TTL: MaxTTL + 1}},
		"negative attempt":     {To: queue, Properties: Properties{Attempt: -1}},
		"mandatory, delayed":   {To: queue, Mandatory: true, Delay: 1},
		"long content type":    {To: queue, Properties: Properties{ContentType: overLimit}},
		"long correlation id":  {To: queue, Properties: Properties{CorrelationID: overLimit}},
		"long reply address":   {To: queue, Properties: Properties{ReplyTo: overLimit}},
		"control in reply":     {To: queue, Properties: Properties{ReplyTo: "a\r"}},
		"control in type":      {To: queue, Properties: Properties{ContentType: "a\t"}},
		"correlation no UTF-8": {To: queue, Properties: Properties{CorrelationID: "\x80"}},
	} {
		if err := p.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

func TestPublicationNeeds(t *testing.T) {
	for _, c := range []struct {
		p    Publication
		want Ability
	}{
		{Publication{}, 0},
		{Publication{To: Endpoint{Fanout, "x"}}, CanFanout},
		{Publication{To: Endpoint{Direct, "x"}}, CanRoute},
		{Publication{To: Endpoint{Topic, "x"}}, CanTopic},
		{Publication{To: Endpoint{Reply, "x"}}, CanReply},
		{Publication{Delay: 1}, CanDelay},
		{Publication{Properties: Properties{TTL: 1}}, CanExpire},
		{Publication{Properties: Properties{Priority: 1}}, CanPrioritize},
		{Publication{To: Endpoint{Topic, "x"}, Mandatory: true}, CanTopic | CanReturn},
	} {
		if got := c.p.Needs(); got != c.want {
			t.Errorf("%+v needs %v, want %v", c.p, got, c.want)
		}
	}
}

func fullPublication() Publication {
	return Publication{
		To: Endpoint{Topic, "a-name-of-some-forty-bytes-as-teams-have-them"}, Key: "usa.weather.today",
		Properties: Properties{
			ContentType: "application/json", ReplyTo: "amq.gen-Vz7eTYRhLkVfUUFcXwB5Qw",
			CorrelationID: "0193f5a0-1111-7000-8000-000000000000",
		},
	}
}

// BenchmarkValidate is what every publish pays.
func BenchmarkValidate(b *testing.B) {
	p := fullPublication()
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}
