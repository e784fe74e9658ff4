package patterns

import (
	"errors"
	"fmt"
	"strings"

	"github.com/motifmq/motif/adapters"
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{adapters.ErrInvalid}, args...)...)
}

// opError says which operation failed with err, which may be nil.
func opError(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q: %w", what, clip(name, 64), err)
}

// singleError is the failure of the only message of a publish.
func singleError(err error) error {
	failed, ok := err.(*adapters.PublishError) //nolint:errorlint // what wraps one says more than it
	if ok && len(failed.Failed) == 1 {
		return failed.Failed[0].Err
	}
	return err
}

// clip shortens s to at most n bytes of valid UTF-8.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// isInspectable reports whether err can be asked what it is. A nil pointer in it often panics then,
// as a nil *os.PathError does, and who asks next has no recover.
func isInspectable(err error) (ok bool) {
	defer func() { ok = recover() == nil }()
	_ = err.Error()
	_ = errors.Is(err, errGoexit)
	_ = isA[*ackedError](err)
	return true
}
