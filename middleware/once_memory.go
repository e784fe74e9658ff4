package middleware

import (
	"context"
	"sync"
)

// MemoryStore is a [Store] in memory, which remembers the last messages that were handled. It knows
// nothing of other processes, nor of what happened before this one started. It is safe for
// concurrent use.
type MemoryStore struct {
	mu      sync.Mutex
	keys    map[Key]chan struct{} // nil: handled; else closed when it is not in hand any more
	handled []Key                 // a ring
	next    int
}

// NewMemoryStore returns a store that remembers the last n messages, at least one.
func NewMemoryStore(n int) *MemoryStore {
	n = max(n, 1)
	return &MemoryStore{keys: make(map[Key]chan struct{}), handled: make([]Key, n)}
}

// Do implements [Store].
func (s *MemoryStore) Do(ctx context.Context, key Key, handle func(ctx context.Context) error) error {
	if key.ID == "" {
		return handle(ctx)
	}
	if err := s.begin(ctx, key); err != nil {
		return err
	}
	handled := false
	defer func() { s.end(key, handled) }()
	err := handle(ctx)
	handled = err == nil
	return err
}

// begin returns when key is the caller's to handle.
func (s *MemoryStore) begin(ctx context.Context, key Key) error {
	for {
		s.mu.Lock()
		inHand, known := s.keys[key]
		if !known {
			s.keys[key] = make(chan struct{})
		}
		s.mu.Unlock()
		switch {
		case !known:
			return nil
		case inHand == nil:
			return ErrDuplicate
		}
		select {
		case <-inHand:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *MemoryStore) end(key Key, handled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.keys[key])
	if !handled {
		delete(s.keys, key)
		return
	}
	if old := s.handled[s.next]; old != (Key{}) {
		delete(s.keys, old)
	}
	s.keys[key], s.handled[s.next] = nil, key
	s.next = (s.next + 1) % len(s.handled)
}
