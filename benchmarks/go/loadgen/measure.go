package main

import (
	"context"
	"fmt"
	"math/rand"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// sample collects what one goroutine saw; nothing is shared while the load runs.
type sample struct {
	latencies []uint32 // microseconds, measured window only
	before    int      // operations of the warm-up
	failed    int
	first     error
}

// operation does one request with a worker's own random source.
type operation func(ctx context.Context, c *clientv3.Client, dice *rand.Rand) error

// closedLoop keeps s.clients requests in flight for warm-up and window, and reports the window.
func closedLoop(ctx context.Context, s *settings, clients []*clientv3.Client, op operation) (report, error) {
	samples := make([]sample, s.clients)
	var measuring, stop atomic.Bool
	var workers sync.WaitGroup
	for i := range samples {
		workers.Add(1)
		go func() {
			defer workers.Done()
			mine, c := &samples[i], clients[i%len(clients)]
			dice := rand.New(rand.NewSource(int64(i + 1)))
			for !stop.Load() {
				counted := measuring.Load()
				began := time.Now()
				err := op(ctx, c, dice)
				took := time.Since(began)
				switch {
				case err != nil:
					mine.failed++
					if mine.first == nil {
						mine.first = err
					}
					time.Sleep(time.Millisecond) // a refusing server must not be hammered
				case counted && !stop.Load():
					mine.latencies = append(mine.latencies, uint32(took.Microseconds()))
				default:
					mine.before++
				}
			}
		}()
	}
	time.Sleep(time.Duration(s.warmup * float64(time.Second)))
	measuring.Store(true)
	began := time.Now()
	time.Sleep(time.Duration(s.seconds * float64(time.Second)))
	stop.Store(true)
	took := time.Since(began)
	workers.Wait()
	return summarize(samples, took), nil
}

func summarize(samples []sample, took time.Duration) report {
	r := report{Seconds: took.Seconds()}
	var all []uint32
	for i := range samples {
		all = append(all, samples[i].latencies...)
		r.TotalOps += samples[i].before + len(samples[i].latencies)
		r.Errors += samples[i].failed
		if r.FirstFail == "" && samples[i].first != nil {
			r.FirstFail = samples[i].first.Error()
		}
	}
	r.Ops = len(all)
	r.Rate = float64(r.Ops) / r.Seconds
	r.P50, r.P99, r.Max = percentiles(all)
	return r
}

func percentiles(all []uint32) (p50, p99, largest float64) {
	if len(all) == 0 {
		return 0, 0, 0
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	at := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))]) }
	return at(0.50), at(0.99), at(1)
}

func keyName(s *settings, i int) string { return fmt.Sprintf("%s%012d", s.prefix, i) }

// value is incompressible text of the wanted length, the same in every run.
func value(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-"
	dice := rand.New(rand.NewSource(7))
	out := make([]byte, n)
	for i := range out {
		out[i] = letters[dice.Intn(len(letters))]
	}
	return string(out)
}

// parallel runs job(0..count-1) on s.clients goroutines and returns the first error.
func parallel(s *settings, clients []*clientv3.Client, count int, job func(c *clientv3.Client, i int) error) error {
	var next atomic.Int64
	var workers sync.WaitGroup
	failures := make(chan error, s.clients)
	for w := 0; w < s.clients; w++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				if err := job(clients[w%len(clients)], i); err != nil {
					failures <- err
					return
				}
			}
		}()
	}
	workers.Wait()
	select {
	case err := <-failures:
		return err
	default:
		return nil
	}
}
