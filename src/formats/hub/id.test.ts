import { describe, expect, it } from 'vitest';
import { hubIdText, parseHubId } from './id.js';
import { hubSettings } from './settings.js';

describe('parseHubId', () => {
  it.each([
    ['owner/name', { repo: 'owner/name', revision: 'main' }, 'owner/name'],
    [
      'HuggingFaceTB/SmolLM2-135M-Instruct',
      { repo: 'HuggingFaceTB/SmolLM2-135M-Instruct', revision: 'main' },
      undefined,
    ],
    ['owner/name@v1.0', { repo: 'owner/name', revision: 'v1.0' }, 'owner/name@v1.0'],
    ['hf:owner/name@refs/pr/3', { repo: 'owner/name', revision: 'refs/pr/3' }, 'owner/name@refs/pr/3'],
    ['hf:gpt2', { repo: 'gpt2', revision: 'main' }, 'gpt2'],
    ['hf://owner/name', { repo: 'owner/name', revision: 'main' }, 'owner/name'],
    ['hf:o/n/sub/x.gguf@main', { repo: 'o/n', revision: 'main', file: 'sub/x.gguf' }, 'o/n/sub/x.gguf'],
  ])('%s', (text, id, shown) => {
    expect(parseHubId(text)).toEqual(id);
    expect(hubIdText(parseHubId(text)!)).toBe(shown ?? text);
  });

  it.each([
    './owner/name',
    '../name',
    '/owner/name',
    'owner/name/',
    'name',
    'demo',
    'a/b/c',
    'a/b.gguf',
    'a\\b',
    'C:/models',
    '~/model',
    'a b/c',
    'a--b/c',
    'a/..',
    'a/b@',
    'a/b@../../x',
    'a/b@-x',
    '',
  ])('"%s" can only be a path', (text) => {
    expect(parseHubId(text)).toBeUndefined();
  });

  it.each(['hf:', 'hf:/x', 'hf:a/b@..', 'hf:a/../b', 'hf:a/b/../c', 'hf:a/b/c\\d', 'hf:a//b', 'hf:a/b//c'])(
    '"%s" is no id',
    (text) => {
      expect(() => parseHubId(text)).toThrow(/is no hub id, expected hf:owner\/name/);
    },
  );
});

describe('hubSettings', () => {
  it('has the defaults and precedence of the hub’s own tools', async () => {
    const { endpoint, cache, token, offline } = await hubSettings({ HF_HOME: '/h', HF_TOKEN: ' t\n' });
    expect([endpoint, cache, token, offline]).toEqual(['https://huggingface.co', '/h/hub', 't', false]);
    expect((await hubSettings({ XDG_CACHE_HOME: '/x' })).cache).toBe('/x/huggingface/hub');
    expect(
      (await hubSettings({ HF_HOME: '/h', HUGGINGFACE_HUB_CACHE: '/old', HF_HUB_CACHE: '/c' })).cache,
    ).toBe('/c');
    expect((await hubSettings({ HF_HOME: '~/h' })).cache).toMatch(/^\/.*\/h\/hub$/);
    expect((await hubSettings({ HF_HUB_OFFLINE: 'yes', HF_ENDPOINT: 'http://m/' })).offline).toBe(true);
    expect((await hubSettings({ HF_ENDPOINT: 'http://mirror/' })).endpoint).toBe('http://mirror');
    await expect(hubSettings({ HF_ENDPOINT: 'ftp://x' })).rejects.toThrow(
      /HF_ENDPOINT is "ftp:\/\/x", expected/,
    );
  });
});
