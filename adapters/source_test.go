package adapters

import (
	"errors"
	"math"
	"testing"
	"time"
)

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
