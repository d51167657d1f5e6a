// Command loadgen drives one etcd endpoint with one kind of load and prints one line of JSON.
//
// It is the neutral side of corum's benchmarks: the same program, built on etcd's own clientv3,
// measures Go etcd and corum. It knows nothing about either.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// settings are the flags; each load uses the ones that concern it.
type settings struct {
	endpoint     string
	load         string
	clients      int
	connections  int
	keys         int
	valueBytes   int
	limit        int
	watchers     int
	total        int
	rate         int
	batch        int
	readPercent  int
	seconds      float64
	warmup       float64
	serializable bool
	hold         bool
	prefix       string
}

// report is the line that is printed. Latencies are in microseconds.
type report struct {
	Load      string             `json:"load"`
	Ops       int                `json:"ops"`       // in the measured window
	TotalOps  int                `json:"total_ops"` // with warm-up: what the server's CPU time was spent on
	Errors    int                `json:"errors"`
	FirstFail string             `json:"first_error,omitempty"`
	Seconds   float64            `json:"seconds"`
	Rate      float64            `json:"rate"`
	P50       float64            `json:"p50_us"`
	P99       float64            `json:"p99_us"`
	Max       float64            `json:"max_us"`
	Extra     map[string]float64 `json:"extra,omitempty"`
}

type loadFunc func(context.Context, *settings, []*clientv3.Client) (report, error)

var loads = map[string]loadFunc{
	"put":             runPut,
	"range":           runRange,
	"stream":          runStream,
	"count":           runCount,
	"txn":             runTxn,
	"mixed":           runMixed,
	"fill":            runFill,
	"delete":          runDelete,
	"watch-fanout":    runWatchFanout,
	"watch-latency":   runWatchLatency,
	"watch-catchup":   runWatchCatchup,
	"watch-idle":      runWatchIdle,
	"lease-keepalive": runLeaseKeepAlive,
	"stall-range":     runStallRange,
	"stall-compact":   runStallCompact,
	"rolling":         runRolling,
	"v2-set":          runV2Set,
	"v2-get":          runV2Get,
	"v2-qget":         runV2QuorumGet,
	"v2-cas":          runV2CAS,
	"v2-wait":         runV2Wait,
	"v2-expire":       runV2Expire,
}

func parse() *settings {
	s := &settings{}
	names := make([]string, 0, len(loads))
	for name := range loads {
		names = append(names, name)
	}
	sort.Strings(names)
	flag.StringVar(&s.endpoint, "endpoint", "127.0.0.1:2379", "host:port of the server, or several joined by commas")
	flag.StringVar(&s.load, "load", "put", strings.Join(names, ", "))
	flag.IntVar(&s.clients, "clients", 100, "requests in flight")
	flag.IntVar(&s.connections, "connections", 10, "TCP connections they share")
	flag.IntVar(&s.keys, "keys", 100_000, "size of the key space")
	flag.IntVar(&s.valueBytes, "value-bytes", 256, "size of a value")
	flag.IntVar(&s.limit, "limit", 1, "keys of one range answer")
	flag.IntVar(&s.watchers, "watchers", 1_000, "watchers")
	flag.IntVar(&s.total, "total", 0, "operations or events, for the loads that have a fixed number")
	flag.IntVar(&s.rate, "rate", 500, "puts per second of loads with a fixed pace")
	flag.IntVar(&s.batch, "batch", 100, "puts of one transaction when filling")
	flag.IntVar(&s.readPercent, "read-percent", 80, "reads of the mixed load")
	flag.Float64Var(&s.seconds, "seconds", 5, "length of the measured window")
	flag.Float64Var(&s.warmup, "warmup", 1, "seconds before it")
	flag.BoolVar(&s.serializable, "serializable", false, "serializable instead of linearizable reads")
	flag.BoolVar(&s.hold, "hold", false, "after the report wait for the end of standard input before leaving")
	flag.StringVar(&s.prefix, "prefix", "key", "what keys begin with")
	flag.Parse()
	return s
}

func dial(s *settings) ([]*clientv3.Client, error) {
	clients := make([]*clientv3.Client, s.connections)
	for i := range clients {
		c, err := clientv3.New(clientv3.Config{
			Endpoints:   strings.Split(s.endpoint, ","),
			DialTimeout: 10 * time.Second,
			Logger:      zap.NewNop(),
		})
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		clients[i] = c
	}
	return clients, nil
}

func main() {
	s := parse()
	run, known := loads[s.load]
	if !known {
		fmt.Fprintf(os.Stderr, "unknown load %q\n", s.load)
		os.Exit(2)
	}
	clients, err := dial(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	r, err := run(context.Background(), s, clients)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", s.load, err)
		os.Exit(1)
	}
	r.Load = s.load
	line, err := json.Marshal(r)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(line))
	if s.hold {
		one := make([]byte, 1)
		for {
			if _, err := os.Stdin.Read(one); err != nil {
				break
			}
		}
	}
}
