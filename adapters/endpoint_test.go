package adapters

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

var (
	atLimit   = strings.Repeat("x", MaxNameBytes)
	overLimit = atLimit + "x"
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

func TestSourceValidate(t *testing.T) {
	queue, fanout, reply := Endpoint{Queue, "q"}, Endpoint{Fanout, "x"}, Endpoint{Reply, ""}
	direct, topic := Endpoint{Direct, "x"}, Endpoint{Topic, "x"}
	one := []string{"k"}
	for name, s := range map[string]Source{
		"queue":                   {Endpoint: queue},
		"fanout, private":         {Endpoint: fanout},
		"fanout, group":           {Endpoint: fanout, Group: "g"},
		"direct, private":         {Endpoint: direct, Keys: one},
		"direct, wildcard text":   {Endpoint: direct, Keys: []string{"#.a.#.a.#.a", ""}},
		"topic, group":            {Endpoint: topic, Group: "g", Keys: []string{"usa.#", "*.weather", "#"}},
		"topic, longest pattern":  {Endpoint: topic, Keys: []string{atLimit}},
		"reply":                   {Endpoint: reply},
		"longest queue name":      {Endpoint: Endpoint{Fanout, atLimit[2:]}, Group: "g"},
		"passive queue":           {Endpoint: queue, Passive: true},
		"passive group, no keys":  {Endpoint: topic, Group: "g", Passive: true},
		"prefetch is not checked": {Endpoint: queue, Prefetch: -1},
		"all properties": {Endpoint: queue, Queue: QueueSpec{
			DeadLetter: "q.dead", MaxLength: 1, Overflow: DropHead,
			MessageTTL: time.Second, MaxPriority: 9, AutoDelete: true,
		}},
		"group properties": {Endpoint: fanout, Group: "g", Queue: QueueSpec{DeadLetter: "x"}},
	} {
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	for name, s := range map[string]Source{
		"zero value":                 {},
		"no name":                    {Endpoint: Endpoint{Topic, ""}, Keys: one},
		"unknown kind":               {Endpoint: Endpoint{200, "q"}},
		"amq. name":                  {Endpoint: Endpoint{Fanout, "amq.headers"}},
		"exchange":                   {Endpoint: Endpoint{Exchange, "audit"}},
		"group of an exchange":       {Endpoint: Endpoint{Exchange, "audit"}, Group: "g", Passive: true},
		"long name":                  {Endpoint: Endpoint{Queue, overLimit}},
		"named reply":                {Endpoint: Endpoint{Reply, "r"}},
		"reply with group":           {Endpoint: reply, Group: "g"},
		"reply with keys":            {Endpoint: reply, Keys: one},
		"reply with properties":      {Endpoint: reply, Queue: QueueSpec{AutoDelete: true}},
		"passive reply":              {Endpoint: reply, Passive: true},
		"queue with group":           {Endpoint: queue, Group: "g"},
		"colon in group":             {Endpoint: fanout, Group: "a:b"},
		"control in group":           {Endpoint: fanout, Group: "a\n"},
		"long group":                 {Endpoint: fanout, Group: overLimit},
		"long queue name":            {Endpoint: Endpoint{Fanout, atLimit[1:]}, Group: "g"},
		"queue with keys":            {Endpoint: queue, Keys: one},
		"fanout with keys":           {Endpoint: fanout, Keys: one},
		"direct without keys":        {Endpoint: direct},
		"topic without keys":         {Endpoint: topic, Group: "g"},
		"long key":                   {Endpoint: direct, Keys: []string{"k", overLimit}},
		"control in key":             {Endpoint: direct, Keys: []string{"k\x1b"}},
		"key not UTF-8":              {Endpoint: topic, Keys: []string{"\xff"}},
		"exploding pattern":          {Endpoint: topic, Keys: []string{"k", "#.a.#.a.#.a"}},
		"exploding, passive":         {Endpoint: topic, Group: "g", Keys: []string{hardPattern}, Passive: true},
		"properties on private":      {Endpoint: fanout, Queue: QueueSpec{MaxLength: 1}},
		"passive private":            {Endpoint: direct, Keys: one, Passive: true},
		"negative max length":        {Endpoint: queue, Queue: QueueSpec{MaxLength: -1}},
		"negative message TTL":       {Endpoint: queue, Queue: QueueSpec{MessageTTL: -1}},
		"long message TTL":           {Endpoint: queue, Queue: QueueSpec{MessageTTL: MaxTTL + 1}},
		"unknown overflow":           {Endpoint: queue, Queue: QueueSpec{Overflow: DropHead + 1}},
		"own dead letters":           {Endpoint: queue, Queue: QueueSpec{DeadLetter: "q"}},
		"own dead letters, by group": {Endpoint: fanout, Group: "g", Queue: QueueSpec{DeadLetter: "x:g"}},
		"amq. dead letters":          {Endpoint: queue, Queue: QueueSpec{DeadLetter: "amq.q"}},
		"long dead letters":          {Endpoint: queue, Queue: QueueSpec{DeadLetter: overLimit}},
	} {
		if err := s.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

func TestSourceValidateSubscribe(t *testing.T) {
	for prefetch, ok := range map[int]bool{
		-1: false, 0: false, 1: true, math.MaxUint16: true, math.MaxUint16 + 1: false,
	} {
		err := Source{Endpoint: Endpoint{Queue, "q"}, Prefetch: prefetch}.ValidateSubscribe()
		if ok && err != nil || !ok && !errors.Is(err, ErrInvalid) {
			t.Errorf("prefetch %d: %v", prefetch, err)
		}
	}
	if err := (Source{Prefetch: 1}).ValidateSubscribe(); !errors.Is(err, ErrInvalid) {
		t.Errorf("no name: %v, want ErrInvalid", err)
	}
}

// TestErrorsDoNotRepeatALot: a megabyte of key must not become a megabyte of log.
func TestErrorsDoNotRepeatALot(t *testing.T) {
	huge := strings.Repeat("k", 1<<20)
	for name, err := range map[string]error{
		"key":         Publication{To: Endpoint{Topic, "x"}, Key: huge}.Validate(),
		"useless key": Publication{To: Endpoint{Fanout, "x"}, Key: huge}.Validate(),
		"name":        Publication{To: Endpoint{Topic, huge}}.Validate(),
		"amq. name":   Publication{To: Endpoint{Topic, "amq." + huge}}.Validate(),
		"pattern":     Source{Endpoint: Endpoint{Topic, "x"}, Keys: []string{huge}}.Validate(),
		"group":       Source{Endpoint: Endpoint{Queue, "q"}, Group: huge}.Validate(),
	} {
		if err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
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

func TestSourceNeeds(t *testing.T) {
	for _, c := range []struct {
		s    Source
		want Ability
	}{
		{Source{}, 0},
		{Source{Endpoint: Endpoint{Reply, ""}}, CanReply},
		{Source{Endpoint: Endpoint{Topic, "x"}, Group: "g"}, CanTopic | CanGroup},
		{Source{Passive: true}, CanPassive},
		{Source{Queue: QueueSpec{DeadLetter: "d"}}, CanDeadLetter},
		{Source{Queue: QueueSpec{MaxLength: 1}}, CanLimit},
		{Source{Queue: QueueSpec{MessageTTL: 1}}, CanExpire},
		{Source{Queue: QueueSpec{MaxPriority: 1}}, CanPrioritize},
		{Source{Queue: QueueSpec{AutoDelete: true}}, CanAutoDelete},
	} {
		if got := c.s.Needs(); got != c.want {
			t.Errorf("%+v needs %v, want %v", c.s, got, c.want)
		}
	}
}

func TestSourceQueueName(t *testing.T) {
	for _, c := range []struct {
		s       Source
		private bool
		name    string
	}{
		{Source{Endpoint: Endpoint{Queue, "orders"}}, false, "orders"},
		{Source{Endpoint: Endpoint{Fanout, "placed"}, Group: "merchant"}, false, "placed:merchant"},
		{Source{Endpoint: Endpoint{Fanout, "placed"}}, true, ""},
		{Source{Endpoint: Endpoint{Direct, "logs"}}, true, ""},
		{Source{Endpoint: Endpoint{Topic, "news"}}, true, ""},
		{Source{Endpoint: Endpoint{Reply, ""}}, true, ""},
	} {
		if got := c.s.Private(); got != c.private {
			t.Errorf("%v, group %q: private %v", c.s.Endpoint, c.s.Group, got)
		}
		if got := c.s.QueueName(); got != c.name {
			t.Errorf("%v, group %q: queue %q, want %q", c.s.Endpoint, c.s.Group, got, c.name)
		}
	}
}

func TestKind(t *testing.T) {
	for _, c := range []struct {
		kind           Kind
		name           string
		exchange, keys bool
	}{
		{Queue, "queue", false, false},
		{Fanout, "fanout", true, false},
		{Direct, "direct", true, true},
		{Topic, "topic", true, true},
		{Reply, "reply", false, false},
		{99, "kind(99)", false, false},
	} {
		if c.kind.String() != c.name || c.kind.IsExchange() != c.exchange || c.kind.UsesKeys() != c.keys {
			t.Errorf("%v: exchange %v, keys %v; want %+v", c.kind, c.kind.IsExchange(), c.kind.UsesKeys(), c)
		}
	}
	if got := (Endpoint{Queue, "orders"}).String(); got != `queue "orders"` {
		t.Errorf("got %s", got)
	}
	for outcome, want := range map[Outcome]string{Ack: "ack", Requeue: "requeue", Reject: "reject", 9: "outcome(9)"} {
		if got := outcome.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestValidateDoesNotAllocate(t *testing.T) {
	p, s := fullPublication(), Source{Endpoint: Endpoint{Topic, "news"}, Keys: []string{"usa.#"}, Prefetch: 1}
	if n := testing.AllocsPerRun(100, func() {
		if err := errors.Join(p.Validate(), s.ValidateSubscribe()); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
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
