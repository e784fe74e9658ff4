package prometheus

import (
	_ "github.com/motifmq/motif/patterns"
	_ "github.com/motifmq/motif/adapters/memory"
	_ "github.com/ThreeDotsLabs/watermill/message"
	_ "github.com/prometheus/client_golang/prometheus"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/prometheus/client_golang/prometheus/testutil"
)
