package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// heavy is long work on one connection while another one goes on putting.
type heavy func(ctx context.Context, c *clientv3.Client) error

// stall puts one key every s.rate-th of a second, alone, before, during and for a second after
// the heavy work, and reports the puts that overlapped it; "calm_max_us" is the largest before.
func stall(ctx context.Context, s *settings, clients []*clientv3.Client, work heavy) (report, error) {
	if len(clients) < 2 {
		return report{}, fmt.Errorf("needs two connections")
	}
	var calm, busy sample
	var working, stop atomic.Bool
	var putting sync.WaitGroup
	putting.Add(1)
	go func() {
		defer putting.Done()
		pace := time.NewTicker(time.Second / time.Duration(s.rate))
		defer pace.Stop()
		for !stop.Load() {
			<-pace.C
			into := &calm
			began := time.Now()
			overlaps := working.Load()
			_, err := clients[0].Put(ctx, "probe", "x")
			if overlaps || working.Load() {
				into = &busy
			}
			if err != nil {
				into.failed++
				into.first = err
				continue
			}
			into.latencies = append(into.latencies, uint32(time.Since(began).Microseconds()))
		}
	}()
	time.Sleep(2 * time.Second)
	working.Store(true)
	began := time.Now()
	err := work(ctx, clients[1])
	took := time.Since(began)
	time.Sleep(time.Second) // what the work leaves behind on the server belongs to it
	working.Store(false)
	stop.Store(true)
	putting.Wait()
	r := summarize([]sample{busy}, took+time.Second)
	_, _, calmMax := percentiles(calm.latencies)
	r.Extra = map[string]float64{"work_s": took.Seconds(), "calm_max_us": calmMax}
	return r, err
}

func runStallRange(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	return stall(ctx, s, clients, func(ctx context.Context, c *clientv3.Client) error {
		answer, err := c.Get(ctx, s.prefix, clientv3.WithPrefix())
		if err == nil && len(answer.Kvs) != s.keys {
			return fmt.Errorf("%d keys instead of %d", len(answer.Kvs), s.keys)
		}
		return err
	})
}

// runStallCompact overwrites every key once, so that there is as much to compact as there are keys.
func runStallCompact(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	if err := fill(ctx, s, clients); err != nil {
		return report{}, err
	}
	return stall(ctx, s, clients, func(ctx context.Context, c *clientv3.Client) error {
		now, err := c.Get(ctx, "probe")
		if err != nil {
			return err
		}
		_, err = c.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
		return err
	})
}
