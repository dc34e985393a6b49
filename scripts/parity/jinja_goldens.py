#!/usr/bin/env python3
"""Render small templates with transformers, for src/formats/jinja/template.test.ts to compare with.

    python scripts/parity/jinja_goldens.py      # writes src/formats/fixtures/chat/jinja.json

`semantics` are templates, each about one thing that Python's jinja2 and other implementations may take differently.
`matrix` has expressions over x (and y), and what each gives for every value of a pool: the text, or null for an error.
Versions: see requirements.txt.
"""

from __future__ import annotations

import copy
import json
import os
import re

import jinja2
import transformers
from chat_goldens import FOLDER, NOW, FixedDatetime
from transformers.utils import chat_template_utils

SEMANTICS = [
    "{{ 'xxaxx'.strip('x') }}|{{ '\\n\\na\\n'.lstrip('\\n') }}|{{ 'ab'.rstrip('ab') }}|{{ ' a '.strip() }}|{{ 'xa' | trim('x') }}",
    "{{ none }}|{{ true }}|{{ False }}|{{ undefined_thing }}|{{ 1.0 }}|{{ 3 }}",
    "{{ none ~ 1 ~ true ~ 'x' ~ undefined_thing }}|{{ true | string }}|{{ [1, none, 'x', true] | join(', ') }}",
    "{{ '1' == 1 }}|{{ 1 == true }}|{{ none == undefined_thing }}|{{ '' == false }}|{{ 0 == '' }}|{{ [1, 'a'] == [1, 'a'] }}|{{ [] == '' }}",
    "{{ none != undefined_thing }}|{{ 1 != 1.0 }}|{{ 'a' != 'a' }}|{{ undefined_thing == other_thing }}",
    "{% for i in [1, 2] %}{% if i == 1 %}{% set x = 5 %}{% endif %}[{{ x }}]{% endfor %}{{ x }}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 7 %}{{ x }}{% endfor %}{{ x }}",
    "{% for a in [1, 2] %}{% for b in [3, 4] %}{{ a }}{{ b }}{{ loop.index }}{% set a = 9 %}{% endfor %}{{ a }}{{ loop.last }}{% endfor %}",
    "{% for k, v in {'a': 1, 'b': none}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for i in range(5) if i is odd %}{{ i }}{{ loop.length }}{% else %}none{% endfor %}{{ range(3, 0, -1) | length }}",
    "{% for i in [] %}x{% else %}nothing{% endfor %}",
    "{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{% if i is even %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in range(3) %}{{ i }}{% if i == 1 %}{% break %}{% endif %}{% endfor %}",
    "{% for i in range(3) %}{% continue %}{% else %}nothing{% endfor %}",
    "{{ 'hELLO wORLD-it\\'s' | title }}|{{ 'hELLO it\\'s'.title() }}|{{ 'hELLO' | capitalize }}|{{ 'ÉCOLE'.capitalize() }}|{{ '' | capitalize }}",
    "{{ '👋🏽a' | length }}|{{ undefined_thing | length }}|{{ '👋ab'[1:] }}",
    "{{ 'a' + 1 }}",
    "{{ '%s' % 'x' }}",
    "{{ 7 % 3 }}|{{ -7 % 3 }}|{{ 7 // 2 }}|{{ 7 / 2 }}|{{ 2 ** 3 }}",
    "{{ '{}'.format('x') }}",
    "{{ [1, 2] }}",
    "{{ {'a': [1, 'é<>&', none, true, 2.5], 'b': {}} | tojson }}|{{ {'b': 1, 'a': [1]} | tojson(indent=2) }}|{{ [] | tojson(indent=2) }}",
    "{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}",
    "{{ 'a,b,c'.split(',', 1) | join(';') }}|{{ ' a  b '.split() | join('-') }}|{{ 'a-b'.replace('-', '+') }}",
    "{% macro f(x, y='d') %}<{{ x }}{{ y }}>{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(y=3, x=4) }}",
    "{% set ns = namespace(n=0) %}{% for i in [1, 2, 3] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    "{% set block %}a{{ 1 }}b{% endset %}[{{ block }}]",
    "{%- if true %}\n  indented\n  {%- endif %}\n\n{# comment #}\n  {% if true %}\n line\n  {% endif %}\nend\n",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc",
    "{{ 'x' if false }}|{{ 'x' if true else 'y' }}|{{ undefined_thing | default('d') }}|{{ '' | default('d', true) }}",
    "{{ 'b' in ['a', 'b'] }}|{{ 'ell' in 'hello' }}|{{ 'k' in {'k': 1} }}|{{ 'k' not in {} }}",
    "{{ strftime_now('%d %b %Y %B %A %a %H:%M:%S %m %%') }}",
    "{{ ['b', 'A', 'c'] | sort | join('') }}|{{ ['a', 'A'] | unique | join('') }}",
    "{{ [{'r': 'u', 'c': 1}, {'r': 'a'}] | selectattr('r', 'equalto', 'u') | map(attribute='c') | first }}",
    "{{ [{'r': 1}] | groupby('r') | length }}",
    "{{ (1, 2) | length }}|{{ [1, 2, 3][-1] }}|{{ [1, 2, 3][::-1] | first }}|{{ 'abc'[-1] }}",
    "{% filter upper %}abc{% endfilter %}",
    "{{ {'a': 1, 'b': [none, true, 2.0, 'x']} | string }}|{{ [] ~ {} }}|{{ ['it\\'s', 'say \"x\"', 'both \\' and \"', '\\n\\t\\\\é👋\\u00a0\\u200b\\u0007'] | string }}",
    "{{ [0.0001, 0.00001, 123456789012345680.0, 1.5, 3.0, 3] | string }}|{{ 0.00001 }}|{{ [[1], {'a': {}}] ~ '' }}|{{ (1, 'a') | string }}",
    "{{ {'a': [1, {'b': none}]} == {'a': [1, {'b': none}]} }}|{{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1.0} }}|{{ {'a': 1} == {'a': 1, 'b': 1} }}|{{ {'a': 1} != {'a': 2} }}|{{ {} == [] }}|{{ {'a': 1} in [{'a': 1}] }}",
    "{% set d = {'a': 1} %}{{ d[['a']] is defined }}|{{ d[none] is defined }}|{{ d[x] is defined }}|{{ d['a'] }}|{{ d['b'] is defined }}|{{ d[{}] }}|{{ [5, 6][1] }}|{{ d is iterable }}|{{ x is iterable }}|{{ none is iterable }}|{{ 1 is not iterable }}|{{ 'a' is iterable }}|{{ (1, 2) is iterable }}",
    "{% for c in 'a👋' %}[{{ c }}]{% endfor %}{% for c in x %}{{ c }}{% else %}none{% endfor %}{% for c in 'abc' if c != 'b' %}{{ c }}{% endfor %}",
    "{{ [{'r': 'a'}, {'r': 'b', 't': 1}, {'r': 'c'}] | rejectattr('r', 'equalto', 'a') | selectattr('t', 'undefined') | list | length }}|{{ ['b ', 'a'] | map('trim') | join(',') }}",
    "{{ x is defined }}|{{ none is none }}|{{ 'a' is string }}|{{ {} is mapping }}|{{ [] is iterable }}|{{ 1 is number }}|{{ true is boolean }}",
    "{% generation %}a{% endgeneration %}\nb{% generation -%}  c  {%- endgeneration %}d",
]

MORE = [
    # What is undefined.
    "{{ undefined_thing.a }}", "{{ undefined_thing['a'] }}", "{{ messages[5] }}", "{{ messages[5].role }}", "{{ messages[0].nothing }}",
    "{{ messages[0].nothing.more }}", "{{ undefined_thing + 1 }}", "{{ undefined_thing() }}", "{{ -undefined_thing }}", "{{ undefined_thing < 1 }}",
    "{{ 'a' in undefined_thing }}|{{ undefined_thing in ['a'] }}|{{ undefined_thing | list }}|{{ undefined_thing | join(',') }}|{{ undefined_thing | upper }}",
    "{{ undefined_thing.a is defined }}", "{{ messages[0].a is defined }}|{{ messages[9] is defined }}|{{ undefined_thing is none }}",
    "{{ undefined_thing | default(none) }}|{{ messages[0].x | default([]) | length }}|{{ none | default('d') }}|{{ none | default('d', true) }}",
    # Scopes.
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set x = 1 %}{% with x = 2, y = x %}{{ x }}{{ y }}{% set x = 3 %}{% endwith %}{{ x }}",
    "{% macro f() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ f() }}{% set x = 2 %}{{ f() }}",
    "{% set x = 1 %}{% macro f() %}{% set x = 5 %}{{ x }}{% endmacro %}{{ f() }}{{ x }}",
    "{% for i in [1, 2] %}{% macro f() %}{{ i }}{{ loop.index }}{% endmacro %}{{ f() }}{% endfor %}",
    "{% for i in [1, 2] %}{% for j in [3] %}{{ loop.index }}{{ i }}{% endfor %}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.index0 }}{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ c }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d) = (3, 4) %}{{ c }}{{ d }}", "{% set ns = namespace(a=1) %}{% set ns.a, ns.b = 2, 3 %}{{ ns.a }}{{ ns.b }}{{ ns.c }}",
    "{% set ns = namespace() %}{% set ns._a = 1 %}", "{% set ns = namespace(_a=1) %}", "{% set ns = {} %}{% set ns.a = 1 %}", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns['b'] }}{{ ns.zip is defined }}",
    "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x is defined }}", "{% set x %}a{% set y = 1 %}{% endset %}{{ x }}{{ y is defined }}",
    "{% for i in [1] %}{% generation %}{{ loop.last }}{{ i }}{% endgeneration %}{% endfor %}", "{% for i in [1] %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", "{% break %}",
    "{% set x = 1 %}{% filter upper %}a{% set x = 2 %}b{{ x }}{% endfilter %}{{ x }}", "{% filter trim | upper %}  a {% endfilter %}", "{% set x | upper | replace('A', 'o') %}aha{% endset %}{{ x }}",
    # Loops.
    "{% for i in range(3) %}{{ loop.previtem }}-{{ loop.nextitem }}{{ loop.first }}{{ loop.depth }};{% endfor %}", "{% for i in 'ab' %}{{ loop.cycle('x', 'y') }}{{ loop.changed(i) }}{% endfor %}",
    "{% for i in [1, [2, [3]]] recursive %}{{ loop.depth0 }}{% if i is iterable %}<{{ loop(i) }}>{% else %}{{ i }}{% endif %}{% endfor %}", "{% for i in [1] %}{{ loop([2]) }}{% endfor %}", "{% for i in [1] %}{{ loop }}{% endfor %}",
    "{% for i in [3, 1] | sort %}{{ i }}{% endfor %}{% for i in messages | selectattr('role', 'eq', 'user') %}{{ loop.length }}{{ i.content }}{% endfor %}",
    "{% for i in [1, 2, 3] if i > 1 if i < 3 else [] %}{{ i }}{% endfor %}", "{% for i in none %}{% endfor %}", "{% for i in 5 %}{% endfor %}", "{% for loop in [1] %}{% endfor %}", "{% for i in [1, 2] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% else %}none{% endfor %}",
    "{% for i in [1] %}{% break %}{% else %}none{% endfor %}", "{% for k in {'b': 1, 'a': 2} %}{{ k }}{% endfor %}{% for k, v in {'b': 1}.items() %}{{ loop.last }}{{ k }}{% endfor %}",
    "{% set g = [1, 2] | map('string') %}{{ g | join }}|{{ g | join }}|{{ g is iterable }}", "{% set g = [] | select %}{% if g %}true{% else %}false{% endif %}", "{{ [1] | map('string') | length }}", "{{ ([1] | map('string'))[0] }}", "{{ [3, 4] | map('string') | first }}", "{{ [3] | select | last }}",
    # Macros and calls.
    "{% macro f(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1) }}|{{ f(1, 3, 4, 5, z=6) }}", "{% macro f(a) %}{{ a }}{% endmacro %}[{{ f() }}]", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}", "{% macro f(a, b) %}{{ a is defined }}{{ b is defined }}{{ b }}{% endmacro %}{{ f(none) }}",
    "{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in{% endcall %}", "{% macro f() %}<{{ caller(1, y=2) }}>{% endmacro %}{% call(x, y) f() %}{{ x }}{{ y }}{% endcall %}", "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}", "{% macro f() %}a{% endmacro %}{% call f() %}in{% endcall %}", "{% macro f(x) %}{{ x }}{% endmacro %}{{ f.name }}{{ f.arguments }}", "{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% macro f(x, y) %}{{ x }}{{ y }}{% endmacro %}{{ f(*[1, 2]) }}{{ f(**{'x': 3, 'y': 4}) }}{{ f(5, *[6]) }}", "{% macro f(a=1, b) %}{% endmacro %}", "{{ f(1)(2) }}",
    # White space.
    "  {% if true %}a{% endif %}\n  {%- if true %} b {%- endif %}\n  {%+ if true %}c{% endif +%}\n d", "a\n\n  {#- c -#}  \n b", "a {# c #}\n b {{- 1 -}} c {{ 2 }}\n", "{% raw %}{{ x }}{% if %}{% endraw %}\nb", "a {%- raw -%} {{ x }} {%- endraw -%} b", "  {% raw %}\n a{% endraw %}", "a\n  {{ 1 }}\n  {# c #}  b", "\n\n", "a\n\n", "{{ 'a' }}\n", "{{ 'a' -}}\n\n b", "\u00a0{%- if true %}a{% endif %}", "\ufeff{%- if true %}a{% endif %}", "x {%- set a = 1 -%} \n y", "\t{% set a = 1 %}\n\tb", "{#-#}a", "{{ {'a': {'b': 1}} }}", "{{ {'a': {}}}}", "{%if true%}a{%endif%}", "{{'a'}}{{ \"b\" }}", "a }} b %} c #} {", "{ {a} }", "{{ 1 }}{% print 1, 'a' %}",
    # Literals and precedence.
    "{{ 1_000 }}|{{ 0x1F }}|{{ 0b101 }}|{{ 0o17 }}|{{ 1.5e3 }}|{{ 1e-7 }}|{{ 1E5 }}|{{ 00 }}", "{{ 9007199254740993 }}|{{ 123456789012345678901234567890 }}|{{ 9007199254740993 + 1 }}|{{ 2 ** 70 }}", "{{ 'a\\n\\x41\\u00e9\\101\\q\\'' }}|{{ \"it's\" }}|{{ 'a' 'b' }}", "{{ -2 ** 2 }}|{{ 2 ** 3 ** 2 }}|{{ 2 ** -1 }}|{{ -3 | abs }}|{{ 1 + 2 * 3 - 4 / 2 }}|{{ 7 // 2 * 2 }}", "{{ 1 < 2 < 3 }}|{{ 3 > 2 > 2 }}|{{ 1 == 1 != 2 }}|{{ 1 < 2 == true }}|{{ 1 in [1] == true }}", "{{ 1 ~ 2 + 3 ~ 4 }}|{{ 'a' ~ 'b' in 'xaby' }}|{{ not 1 in [2] }}|{{ not true or true }}|{{ true or false and false }}", "{{ 1 if true else 2 if false else 3 }}|{{ (1 if false) is defined }}|{{ 'a' if false }}|", "{{ (1, 2) }}|{{ (1,) }}|{{ () }}|{{ (1) }}|{{ 1, 2 }}|{{ [1, 2,] }}|{{ {'a': 1,} }}", "{{ {1: 'a', 1.0: 'b', true: 'c'} }}|{{ {(1, 2): 3}[(1, 2)] }}|{{ {none: 1}[none] }}", "{{ {[]: 1} }}", "{{ [1, 2, 3][1:] }}|{{ [1, 2, 3][:-1] }}|{{ [1, 2, 3][::2] }}|{{ 'abc'[::-1] }}|{{ (1, 2, 3)[1:2] }}|{{ 'abc'[5:] }}|{{ 'abc'[-2:] }}", "{{ 'a👋b'[1] }}|{{ 'a👋b'[-1] }}|{{ 'a👋b'[1:2] }}|{{ 'a👋b' | first }}|{{ 'a👋b' | last }}|{{ 'a👋b' | reverse }}|{{ 'a👋b'.find('b') }}", "{{ a.0 }}", "{{ [1, 2].0 }}|{{ {'a': {'b': 2}}.a.b }}|{{ {'items': 1}.items is mapping }}|{{ {'items': 1}['items'] }}|{{ {'get': 3}.get('get') }}|{{ {'x': 1}['keys']() | list }}", "{{ true and none }}|{{ '' or 'x' }}|{{ 0 or [] }}|{{ 1 and 'y' }}", "{{ 1.0 }}|{{ 1e16 }}|{{ 1e15 }}|{{ 0.1 + 0.2 }}|{{ 100 / 3 }}|{{ 1e22 }}|{{ 1.5e-5 }}|{{ -0.0 }}|{{ 5 % -3 }}|{{ -5 // 3 }}|{{ 5.5 % 2 }}|{{ -5.5 // 2 }}", "{{ 1 / 0 }}", "{{ 1 % 0 }}", "{{ 'a' * 3 }}|{{ 3 * 'a' }}|{{ [1] * 2 }}|{{ 'a' * -1 }}|{{ [1] + [2] }}|{{ (1,) + (2,) }}", "{{ [1] + (2,) }}", "{{ 'a' + none }}", "{{ [1] - [1] }}", "{{ 'a' < 'b' }}|{{ 'B' < 'a' }}|{{ '\uffff' < '👋' }}|{{ [1, 2] < [1, 3] }}|{{ (1,) < (1, 2) }}|{{ 1 < 1.5 }}|{{ true < 2 }}", "{{ 1 < 'a' }}", "{{ none < 1 }}", "{{ 'a' is in ['a'] }}|{{ 3 is divisibleby 3 }}|{{ 3 is sameas 3 }}", "{{ 3 is eq 3 }}|{{ 3 is lt 4 }}|{{ 'A' is upper }}|{{ 'a' is lower }}|{{ none is sameas none }}|{{ 'defined' is test }}|{{ 'upper' is filter }}|{{ 'x' is filter }}|{{ range is callable }}", "{{ 1 is nothing }}", "{{ 1 | nothing }}", "{{ 1 is number is number }}", "{{ 'a' | upper() }}|{{ 'a' | default }}", "{{ 'x' | replace('x', 'y') | upper }}", "{{ 1 is not none and 2 is defined }}|{{ 1 is none or true }}",
    # Formats.
    "{{ '%d %s %r %5.2f|%-5d|%05d|%x' % (1, 'a', 'b', 3.14159, 42, 42, 255) }}", "{{ '%(a)s %(b)d' % {'a': 1, 'b': 2} }}", "{{ '%s' % (1, 2) }}", "{{ '%s %s' % 1 }}", "{{ '%d%%' % 50 }}|{{ '%+d' % 3 }}|{{ '%.3e' % 12345.678 }}|{{ '%.0f' % 0.5 }}|{{ '%.0f' % 1.5 }}|{{ '%s' % none }}|{{ '%5s|%-5s|%.2s' % ('a', 'b', 'abc') }}", "{{ '{} {1}'.format(1, 2) }}", "{{ '{0} {1} {0}'.format('a', 'b') }}|{{ '{x}'.format(x=1) }}|{{ '{{}}'.format() }}|{{ '{!r}'.format('a') }}", "{{ '%s-%s' | format('a', 1) }}|{{ '%(x)s' | format(x=2) }}", "{{ '{:>5}'.format('a') }}", "{{ '{.a}'.format(1) }}",
    # json.
    "{{ {'a': 1.0, 'b': 1e-7, 'c': 1e22, 'd': [9007199254740993, -0.0, 1e16]} | tojson }}", "{{ {1: 'a', none: 'b', true: 'c', 1.5: 'd'} | tojson }}", "{{ {'b': [1, {'c': []}], 'a': {}} | tojson(indent=4, sort_keys=true) }}", "{{ [1, {'a': 2}] | tojson(separators=(',', ':')) }}|{{ 'é👋\u2028\x7f' | tojson }}|{{ 'é👋' | tojson(ensure_ascii=true) }}|{{ '\x01\\b\\f<>&/' | tojson }}", "{{ (1, 2) | tojson }}|{{ none | tojson }}|{{ 'a' | tojson(indent=2) }}|{{ [[], {}] | tojson(indent=1) }}|{{ [1] | tojson(indent='--') }}", "{{ undefined_thing | tojson }}", "{{ range(3) | tojson }}", "{{ {(1, 2): 3} | tojson }}", "{{ [1] | map('string') | tojson }}", "{{ ('<' | e) | tojson }}",
    "{{ strftime_now('%y %j %I %p %e|%-d|%-m|%F %T %D %R %u %w %x %X %c %h') }}", "{{ raise_exception('no: ' ~ 1) }}", "{{ raise_exception() }}",
    "{{ range(5) }}|{{ range(1, 5, 2) }}|{{ range(5)[1] }}|{{ range(5)[-1] }}|{{ 3 in range(5) }}|{{ range(3) | list }}|{{ range(0) | length }}", "{{ range(100001) }}", "{{ range(1.5) }}", "{{ range() }}", "{{ dict(a=1, b=2) }}|{{ dict([('a', 1)]) }}|{{ dict({'x': 1}, y=2) }}|{{ {'a': 1}.items() }}|{{ {'a': 1}.keys() }}|{{ {'a': 1}.values() }}", "{{ {'b': 1, 'A': 2, 'a': 3} | dictsort }}|{{ {'b': 1, 'A': 2} | dictsort(true) }}|{{ {'b': 1, 'a': 2} | dictsort(by='value', reverse=true) }}|{{ {'a': 1} | items | list }}",
    "{{ [1].append(2) }}", "{{ {'a': 1}.update({'b': 2}) }}", "{{ {'a': 1}.pop('a') }}", "{{ ''.__class__ }}", "{{ ''['__class__'] }}", "{{ messages[0]._x is defined }}", "{{ [1, 2].count(1) }}|{{ [1, 2].index(2) }}|{{ (1, 2).index(2) }}", "{{ [1].index(5) }}",
    "{{ [{'a': 1}, {'a': 2}] | map(attribute='a') | list }}|{{ [{'a': {'b': 3}}] | map(attribute='a.b') | join }}|{{ [{}] | map(attribute='a', default=7) | list }}|{{ [[1, 2]] | map(attribute=1) | list }}", "{{ [3, 1, 2] | sort }}|{{ [3, 1, 2] | sort(reverse=true) }}|{{ [{'a': 2}, {'a': 1}] | sort(attribute='a') }}|{{ ['b', 'A'] | sort(case_sensitive=true) }}|{{ [{'a': 1, 'b': 2}, {'a': 1, 'b': 1}] | sort(attribute='a,b') }}", "{{ [1, 'a'] | sort }}", "{{ [1, 2, 3, 4, 5] | batch(2) | list }}|{{ [1, 2, 3] | batch(2, 0) | list }}|{{ [1, 2, 3, 4, 5] | slice(2) | list }}|{{ [1, 2, 3] | slice(2, 0) | list }}", "{{ [1, 2, 3] | sum }}|{{ [{'a': 1}, {'a': 2}] | sum(attribute='a') }}|{{ [0.1, 0.2, 0.3] | sum }}|{{ [[1], [2]] | sum(start=[]) }}", "{% for g in [{'a': 'x', 'b': 1}, {'a': 'Y', 'b': 2}, {'a': 'X', 'b': 3}] | groupby('a') %}{{ g.grouper }}{{ g.list }}{{ g[0] }}{% endfor %}{{ [{'a': 1}] | groupby('a') }}", "{{ ['a', 'A', 'b', 1, 1.0, true] | unique | list }}|{{ ['a', 'A'] | unique(case_sensitive=true) | list }}|{{ [1, 2, 3] | select('odd') | list }}|{{ [1, 2, 3] | reject('gt', 1) | list }}|{{ [0, 1, ''] | select | list }}|{{ [{'a': 1}, {'b': 1}] | selectattr('a') | list }}|{{ [{'a': 1}, {'b': 1}] | rejectattr('a', 'defined') | list }}", "{{ [[]] | unique | list }}", "{{ 'hello world foo' | truncate(11) }}|{{ 'hello world foo' | truncate(8, true) }}|{{ 'hello world foo' | truncate(11, false, '..', 0) }}|{{ 'a b  c-d' | wordcount }}|{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb\n\nc' | indent(2, true, true) }}|{{ 'a\nb' | indent('>') }}|{{ 'ab' | center(7) }}|{{ 'a/b c&é' | urlencode }}",
    "{{ 42.55 | round }}|{{ 42 | round }}|{{ 2.675 | round(2) }}|{{ 0.5 | round }}|{{ 1.5 | round }}|{{ 42.55 | round(1, 'floor') }}|{{ 42.51 | round(method='ceil') }}|{{ 1250 | round(-2) }}|{{ 1234.5 | round(-2) }}|{{ -2.5 | round }}", "{{ '42' | int }}|{{ '4.9' | int }}|{{ 'x' | int }}|{{ 'x' | int(7) }}|{{ ' -3 ' | int }}|{{ 4.9 | int }}|{{ none | int }}|{{ '1_0' | int }}|{{ '1.5' | float }}|{{ 'x' | float }}|{{ true | int }}|{{ '1e3' | float }}|{{ 'inf' | float }}",
    "{{ '<a>' | e }}|{{ '<' | e | upper }}|{{ ('<' | e) ~ '<' }}|{{ '<' | safe }}|{{ [('<' | e)] | join('<') }}", "{{ ('<' | e) + '<' }}", "{{ 'a' | attr('upper') is defined }}|{{ {'x': 1} | attr('x') }}|{{ 'a'['upper']() }}", "{{ [1, 2] | first }}|{{ [] | first }}|{{ [] | last }}|{{ [] | min }}|{{ [3, 1] | min }}|{{ ['b', 'A'] | max }}|{{ {'a': 1} | first }}|{{ {'a': 1, 'b': 2} | last }}", "{{ [1, 2] | reverse | list }}|{{ [1, 2] | reverse | first }}|{{ 'ab' | list }}|{{ {'a': 1} | list }}|{{ 5 | string | length }}", "{{ 5 | length }}", "{{ none | length }}", "{{ none | upper }}|{{ 5 | upper }}|{{ true | lower }}|{{ 1.0 | trim }}|{{ [1] | join('-') }}|{{ 'abc' | join('-') }}", "{{ none.x }}", "{{ none.x.y }}", "{{ (5).x }}|{{ 'a'.x }}|{{ [].x }}|{{ none['x'] }}", "{{ loop }}", "{{ messages }}", "{{ caller }}|{{ self is defined }}", "{{ lipsum is defined }}|{{ cycler is defined }}|{{ joiner is defined }}|{{ namespace is defined }}",
    "{% include 'a' %}", "{% extends 'a' %}", "{% import 'a' as b %}", "{% do 1 %}", "{% nothing %}", "{% endif %}", "{% if %}a{% endif %}", "{{ }}", "{% set %}", "{% set 1 = 2 %}", "{% set true = 2 %}", "{{ a b }}", "{{ 1 + }}", "{{ (1 }}", "{{ [1 }}", "{{ 'a }}", "{# a", "{% raw %}a", "{{ a. }}", "{{ a | }}", "{{ a is }}", "{{ f(a=1, 2) }}", "{{ f(a=1, a=2) }}", "{{ not }}", "{% for in x %}{% endfor %}", "{% for i x %}{% endfor %}", "{% if a %}{% else %}{% elif b %}{% endif %}", "{% macro %}{% endmacro %}", "{% call 1 %}{% endcall %}", "{{ 1 ? 2 }}", "{{ a! }}", "{{ 1abc }}", "{{ $ }}", "{{ a['b', 'c'] }}", "{{ a[] }}", "{{ [1, 2][1:2:3:4] }}", "{{ lambda x: x }}", "{{ [x for x in y] }}", "{{ a = 1 }}", "{{ a == }}", "{{ == a }}", "{{ {1} }}", "{{ {'a'} }}", "{{ {'a': } }}",
]

VALUES = [
    "", "abc", "  Hello wOrld\n", "a,b,,c", "é👋ß ǅ", "1", "-3.50", "x\ny\r\nz", "ΑΣ ΑΣ", "TRUE", "It's a \"test\"",
    0, 1, -7, 9007199254740993, 2**63, 0.5, -2.5, 1e22, 1e-7, 3.0, float("inf"), True, False, None,
    [], [1, 2, 3], ["b", "A", "c", "a"], [3, "x", None], [[1, 2], [3]], [{"a": 1, "b": "x"}, {"a": 2}], [1.5, 1, True],
    {}, {"a": 1, "b": [2]}, {"b": 1, "a": {"c": None}}, {"2": 1, "1": 2},
]

FILTERS = re.split(r"(?<! )\|(?! )", "abs|capitalize|center(9)|default('d')|default('d', true)|dictsort|escape|first|float|forceescape|groupby('a')|indent|int|items|items | list|join|join(', ')|join('-', attribute='a')|last|length|count|list|lower|map('upper') | list|map(attribute='a') | list|max|min|replace('a', 'xx')|replace('', '-')|replace('b', '', 1)|reverse | list|reverse|round|round(1)|round(-1, 'ceil')|safe|select | list|select('string') | list|reject('none') | list|selectattr('a') | list|rejectattr('a', 'eq', 1) | list|sort|sort(reverse=true)|sort(attribute='a')|string|sum|sum(start=0.5)|title|tojson|tojson(indent=2)|tojson(sort_keys=true)|trim|trim('ac ')|truncate(5)|truncate(5, true, '')|unique | list|upper|urlencode|wordcount|batch(2) | list|slice(2) | list|attr('a')|format(1)|d|e|string | length|string | upper")
TESTS = "defined|undefined|none|boolean|true|false|integer|float|number|string|mapping|sequence|iterable|callable|escaped|odd|even|lower|upper|divisibleby 2|eq 1|ne 1|lt 1|le 1|gt 1|ge 'a'|in [1, 'abc', none]|sameas none|sameas true|filter|test".split("|")
METHODS = "strip()|strip('ac')|lstrip()|rstrip('\\n')|upper()|lower()|capitalize()|title()|swapcase()|split()|split(',')|split(',', 1)|split(none, 1)|rsplit(',', 1)|rsplit()|splitlines()|splitlines(true)|partition(',')|rpartition(',')|replace('a', 'b')|replace('', '.')|replace('a', '', 1)|startswith('a')|startswith(('x', ' '))|endswith('c')|find('b')|rfind(',')|index('a')|count('a')|count('')|isdigit()|isalpha()|isalnum()|isspace()|isupper()|islower()|isnumeric()|isdecimal()|istitle()|isascii()|zfill(6)|ljust(6)|rjust(6, '*')|center(6)|removeprefix('a')|removesuffix('c')|join(['x', 'y'])|format(1)|items()|keys() | list|values() | list|get('a')|get('z', 5)|copy()|encode()|casefold()|append(1)|nothing()|a|b|real|count(1)|index(1)".split("|")
OPERATORS = "x + y|x - y|x * y|x / y|x // y|x % y|x ** y|x ~ y|x == y|x != y|x < y|x >= y|x in y|x not in y|x and y|x or y|x[y]|[x] == [y]|{'k': x}['k'] == y".split("|")
UNARY = "{{ x }}|{{ [x] }}|{{ {'k': x} }}|{{ -x }}|{{ +x }}|{{ not x }}|{{ x[0] }}|{{ x[-1] }}|{{ x[1:] }}|{{ x[::-1] }}|{{ x[:2] }}|{{ x.a }}|{{ x['a'] }}|{{ x.a.b }}|{% for i in x %}<{{ i }}>{{ loop.last }}{% else %}none{% endfor %}|{% for k, v in x.items() %}{{ k }}={{ v }};{% endfor %}|{% if x %}t{% else %}f{% endif %}|{% set ns = namespace(v=x) %}{{ ns.v }}|{{ range(x) | list | length < 9 }}|{{ x() }}|{{ 'a' in x }}|{{ 1 in x }}|{{ 'k%sk' % x }}|{{ '%d' % x }}|{{ '%.2f' % x }}|{{ x % 3 }}|{{ {x: 1} }}|{{ {'a': 1}[x] }}|{{ [1, 2][x] }}".split("|{")
PAIRS = ["", "a", "abc", 0, 2, -3, 0.5, True, None, [], [1, "a"], {}, {"a": 1}]


def main() -> None:
    chat_template_utils.datetime = FixedDatetime

    def render(template: str, variables: dict) -> dict:
        try:
            compiled = chat_template_utils._compile_jinja_template(template)
            # A copy: the filter indent adds to a list that it is given.
            text = compiled.render(messages=[{"role": "user", "content": "Hi"}], tools=None, **copy.deepcopy(variables))
            # An address in memory is no expectation.
            return {"error": "prints an address"} if re.search(" at 0x", text) else {"text": text}
        except Exception as error:  # noqa: BLE001 - whatever Python raises is the expectation
            return {"error": str(error)[:100]}

    def row(template: str, pool: list) -> dict:
        return {"template": template, "texts": [render(template, {"x": x}).get("text") for x in pool]}

    unary = [UNARY[0]] + ["{" + rest for rest in UNARY[1:]]
    templates = unary + [f"{{{{ x | {name} }}}}" for name in FILTERS]
    templates += [f"{{{{ x is {name} }}}}" for name in TESTS] + [f"{{{{ x.{name} }}}}" for name in METHODS]
    pairs = [
        {"template": f"{{{{ {operator} }}}}", "texts": [render(f"{{{{ {operator} }}}}", {"x": x, "y": y}).get("text") for x in PAIRS for y in PAIRS]}
        for operator in OPERATORS
    ]
    goldens = {
        "made_by": f"scripts/parity/jinja_goldens.py, transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
        "now": NOW,
        "semantics": [{"template": template} | render(template, {}) for template in SEMANTICS + MORE],
        # JSON keeps what these are: 3.0 has its point.
        "values": [json.dumps(value) for value in VALUES],
        "matrix": [row(template, VALUES) for template in templates],
        "operands": [json.dumps(value) for value in PAIRS],
        "pairs": pairs,
    }
    target = FOLDER / "jinja.json"
    partial = target.with_suffix(".tmp")
    text = json.dumps(goldens, ensure_ascii=True, separators=(",", ":"))
    partial.write_text(text.replace('},{"', '},\n{"') + "\n", encoding="utf-8")
    os.replace(partial, target)
    print(f"{target}: {len(goldens['semantics'])} semantics, {len(templates)} x {len(VALUES)}, {len(pairs)} x {len(PAIRS) ** 2}")


if __name__ == "__main__":
    main()
