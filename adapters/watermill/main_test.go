package watermill_test

import (
	"log"
	"net/http"
	"os"
	"testing"

	"github.com/motifmq/motif/internal/leaktest"
)

// restartArg makes this program ask another for a restart of its broker, at
// the address that comes next.
const restartArg = "-restart-broker"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == restartArg {
		answer, err := http.Get("http://" + os.Args[2]) //nolint:noctx // a test's, to itself
		if err != nil || answer.StatusCode != http.StatusOK {
			log.Fatal("no restart: ", answer, err)
		}
		return
	}
	// watermill's TestReconnect leaves a goroutine that reads from a channel that
	// nobody closes.
	leaktest.Main(m, "github.com/ThreeDotsLabs/watermill/pubsub/tests.TestReconnect.func2")
}
