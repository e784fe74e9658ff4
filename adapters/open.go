package adapters

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Opener makes a driver for a URL of a scheme it was registered for.
type Opener func(ctx context.Context, u *url.URL) (Driver, error)

var (
	openersMu sync.RWMutex
	openers   = map[string]Opener{}
)

// Register makes an adapter known to [Open] under a URL scheme. An adapter
// calls it from its package's init function. It panics if the scheme is taken, or open is nil.
func Register(scheme string, open Opener) {
	openersMu.Lock()
	defer openersMu.Unlock()
	if open == nil {
		panic("motif: Register of scheme " + scheme + " with a nil Opener")
	}
	if _, taken := openers[scheme]; taken {
		panic("motif: scheme " + scheme + " is registered twice")
	}
	openers[scheme] = open
}

// Open returns a driver for the broker that rawURL names, chosen by its
// scheme among the adapters whose packages are imported. An error never
// repeats the URL, which may hold a password.
func Open(ctx context.Context, rawURL string) (Driver, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// url.Error repeats the whole URL; even its inner error may quote a part.
		return nil, fmt.Errorf("%w: the broker URL does not parse (in names and passwords, characters such as / # ? %% [ ] are percent-encoded, as url.UserPassword does it)", ErrInvalid)
	}
	openersMu.RLock()
	open, ok := openers[u.Scheme]
	known := slices.Sorted(maps.Keys(openers))
	openersMu.RUnlock()
	if !ok {
		// In user:password@host the user parses as the scheme.
		if u.Scheme == "" || u.Opaque != "" {
			return nil, fmt.Errorf("%w: the broker URL begins with no known scheme; is the adapter's package imported? (known: %s)", ErrInvalid, strings.Join(known, ", "))
		}
		return nil, fmt.Errorf("%w: no adapter for scheme %q; is its package imported? (known: %s)", ErrInvalid, u.Scheme, strings.Join(known, ", "))
	}
	return open(ctx, u)
}
