package conformance

import (
	"context"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var topicMutants = []mutant{
	{"wants at least one word for a #", "topic/matrix", patterned(func(word string) string {
		if word == "#" {
			return "*.#"
		}
		return word
	})},
	{"takes a # for one word", "topic/matrix", patterned(func(word string) string {
		if word == "#" {
			return "*"
		}
		return word
	})},
	{"drops empty words at the end of a key", "topic/matrix", keyed(func(key string) string { return strings.TrimRight(key, ".") })},
	{"makes a copy for each pattern that matches", "topic/one-copy", copyPerBinding},
	{"ignores all of a pattern but how many words it has", "topic/groups", patterned(func(word string) string {
		if word != "#" {
			return "*"
		}
		return word
	})},
	{"takes a * or # in a message's key for a wildcard", "topic/key-is-text", func(m *mutated) {
		bound := bindings(m)
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if p.To.Kind == adapters.Topic && strings.ContainsAny(p.Key, "*#") {
				pattern := p.Key
				for _, key := range bound("") {
					if p.Key = key; adapters.MatchTopic(pattern, key) {
						return publish(ctx, p, msgs...)
					}
				}
				p.Key = pattern
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"leaves out the patterns that it does not like", "topic/exploding-pattern", sourcing(func(s *adapters.Source) {
		if s.Kind == adapters.Topic {
			s.Keys = slices.DeleteFunc(slices.Clone(s.Keys), func(key string) bool { return adapters.ValidatePattern(key) != nil })
		}
	})},
	{"binds the good patterns before it refuses a bad one", "topic/exploding-pattern", func(m *mutated) {
		declare := m.declare
		m.declare = func(ctx context.Context, s adapters.Source) error {
			for _, key := range s.Keys {
				one := s
				one.Keys = []string{key}
				if err := declare(ctx, one); err != nil {
					return err
				}
			}
			return nil
		}
	}},
	{"never ends matching a long key", "topic/long-key", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if strings.Count(p.Key, ".") > 100 {
				<-ctx.Done()
				return ctx.Err()
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"unbinds no pattern in another spelling", "topic/unbind", func(m *mutated) {
		unbind := m.unbind
		m.unbind = func(ctx context.Context, s adapters.Source) error {
			s.Keys = slices.DeleteFunc(slices.Clone(s.Keys), func(key string) bool { return adapters.NormalPattern(key) != key })
			return unbind(ctx, s)
		}
	}},
	{"refuses a pattern for what its normal form has not", "topic/exploding-pattern", func(m *mutated) {
		subscribe := m.subscribe
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			for _, key := range s.Keys {
				if strings.Count("."+key+".", ".#.") > adapters.MaxPatternWildcards {
					return nil, adapters.ErrMismatch
				}
			}
			return subscribe(ctx, s)
		}
	}},
	{"unbinds every pattern that the given one matches", "topic/unbind", func(m *mutated) {
		bound := bindings(m)
		unbind := m.unbind
		m.unbind = func(ctx context.Context, s adapters.Source) error {
			var keys []string
			for _, pattern := range s.Keys {
				for _, key := range bound(s.QueueName()) {
					if adapters.MatchTopic(pattern, key) {
						keys = append(keys, key)
					}
				}
			}
			s.Keys = append(keys, s.Keys...)
			return unbind(ctx, s)
		}
	}},
}

// patterned binds to topic exchanges with something made of each word of a
// pattern.
func patterned(change func(string) string) func(*mutated) {
	return sourcing(func(s *adapters.Source) {
		if s.Kind != adapters.Topic {
			return
		}
		s.Keys = slices.Clone(s.Keys)
		for i, key := range s.Keys {
			if key == "" {
				continue
			}
			words := strings.Split(key, ".")
			for j, word := range words {
				words[j] = change(word)
			}
			s.Keys[i] = strings.Join(words, ".")
		}
	})
}
