package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// watchAll opens s.watchers watchers, spread over the connections, and waits until the server has
// confirmed every one of them. Each connection carries all of its watchers on one stream.
func watchAll(ctx context.Context, s *settings, clients []*clientv3.Client, key func(int) string) ([]clientv3.WatchChan, error) {
	channels := make([]clientv3.WatchChan, s.watchers)
	err := parallel(s, clients, s.watchers, func(_ *clientv3.Client, i int) error {
		channels[i] = clients[i%len(clients)].Watch(ctx, key(i), clientv3.WithCreatedNotify())
		answer, open := <-channels[i]
		if !open || !answer.Created {
			return fmt.Errorf("watcher %d was not created: %v", i, answer.Err())
		}
		return nil
	})
	return channels, err
}

// runWatchFanout puts one key s.total times as fast as answers come and waits until every watcher
// has seen every event; the rate is events per second.
func runWatchFanout(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	key := s.prefix + "fan"
	channels, err := watchAll(ctx, s, clients, func(int) string { return key })
	if err != nil {
		return report{}, err
	}
	var watching sync.WaitGroup
	var lost atomic.Int64
	for _, channel := range channels {
		watching.Add(1)
		go func() {
			defer watching.Done()
			for seen := 0; seen < s.total; {
				answer, open := <-channel
				if !open || answer.Err() != nil {
					lost.Add(int64(s.total - seen))
					return
				}
				seen += len(answer.Events)
			}
		}()
	}
	v := value(s.valueBytes)
	began := time.Now()
	writers := *s
	writers.clients = 4
	if err := parallel(&writers, clients, s.total, func(c *clientv3.Client, _ int) error {
		_, err := c.Put(ctx, key, v)
		return err
	}); err != nil {
		return report{}, err
	}
	watching.Wait()
	r := once(s.total*s.watchers, time.Since(began))
	r.Errors = int(lost.Load())
	return r, nil
}

// runWatchLatency puts at a fixed pace; each of s.watchers watchers measures the time from before
// the put was sent to the event's arrival.
func runWatchLatency(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	key := s.prefix + "latency"
	channels, err := watchAll(ctx, s, clients, func(int) string { return key })
	if err != nil {
		return report{}, err
	}
	puts := int(float64(s.rate) * s.seconds)
	base := time.Now()
	samples := make([]sample, len(channels))
	var watching sync.WaitGroup
	for i, channel := range channels {
		watching.Add(1)
		go func() {
			defer watching.Done()
			for seen := 0; seen < puts; {
				answer, open := <-channel
				if !open {
					samples[i].failed += puts - seen
					return
				}
				now := time.Since(base)
				for _, event := range answer.Events {
					sent := time.Duration(binary.BigEndian.Uint64(event.Kv.Value))
					samples[i].latencies = append(samples[i].latencies, uint32((now - sent).Microseconds()))
				}
				seen += len(answer.Events)
			}
		}()
	}
	var writing sync.WaitGroup
	var failed atomic.Int64
	pace := time.NewTicker(time.Second / time.Duration(s.rate))
	defer pace.Stop()
	for n := 0; n < puts; n++ {
		<-pace.C
		writing.Add(1)
		go func() {
			defer writing.Done()
			stamp := make([]byte, 8)
			binary.BigEndian.PutUint64(stamp, uint64(time.Since(base)))
			if _, err := clients[n%len(clients)].Put(ctx, key, string(stamp)); err != nil {
				failed.Add(1)
			}
		}()
	}
	writing.Wait()
	took := time.Since(base)
	if failed.Load() > 0 {
		return report{}, errors.New("puts failed; watchers would wait for ever")
	}
	watching.Wait()
	return summarize(samples, took), nil
}

// runWatchCatchup makes s.total events, then watches from before them and measures until all of the past's
// events are there. The past is made before, s.batch puts per revision.
func runWatchCatchup(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	filling := *s
	filling.keys, filling.batch = s.total, max(s.batch, 1)
	before, err := clients[0].Get(ctx, s.prefix)
	if err != nil {
		return report{}, err
	}
	if err := fill(ctx, &filling, clients); err != nil {
		return report{}, err
	}
	began := time.Now()
	var all sample
	seen := 0
	for answer := range clients[0].Watch(ctx, s.prefix, clientv3.WithPrefix(), clientv3.WithRev(before.Header.Revision+1)) {
		if err := answer.Err(); err != nil {
			return report{}, err
		}
		if seen += len(answer.Events); seen >= s.total {
			break
		}
	}
	took := time.Since(began)
	r := summarize([]sample{all}, took)
	r.Ops, r.TotalOps, r.Rate = seen, seen, float64(seen)/took.Seconds()
	return r, nil
}

// runWatchIdle opens watchers on as many different keys and reports how fast; with -hold the
// server's memory can be read while they are open.
func runWatchIdle(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	began := time.Now()
	_, err := watchAll(ctx, s, clients, func(i int) string { return keyName(s, i) })
	return once(s.watchers, time.Since(began)), err
}
