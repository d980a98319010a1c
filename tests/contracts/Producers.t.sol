// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {IProducers} from "../../contracts/interfaces/IProducers.sol";
import {ForgeTest} from "./Forge.sol";
import {ProducersHandler} from "./ProducersHandler.sol";

/// @title The numbered invariants of Producers, checked after random calls of the handler
contract ProducersInvariants is ForgeTest {
    ProducersHandler private _handler;
    IProducers private _producers;

    function setUp() external {
        _handler = new ProducersHandler();
        _producers = _handler.producers();
    }

    /// @notice Restricts Foundry to calls of the handler.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @notice A fixed sequence of actions, so that coverage does not depend on the seed.
    function test_theInvariantsHoldAlongAWalk() external {
        for (uint256 i = 0; i < 200; ++i) {
            (uint256 who, uint256 which, uint256 seed) = (_mix(i, "who"), _mix(i, "which"), _mix(i, "seed"));
            if (i % 3 == 0) _handler.admit(who, which, which / 8, seed);
            else if (i % 16 == 1) _handler.handOver(seed);
            else _handler.suspend(who, which, seed % 2 == 0);
            _handler.warp(seed);
            if (i % 20 != 0) continue;
            this.invariant_P1_onlyTheSuspensionOfAProducerChanges();
            this.invariant_P2_aNameAndABlockOtaBelongToOneProducer();
            this.invariant_P4_onlyTheOwnerDecides();
            this.invariant_P5_pagesTogetherAreEveryProducer();
        }
    }

    function invariant_P1_onlyTheSuspensionOfAProducerChanges() external view {
        IProducers.Producer[] memory admitted = _handler.admitted();
        for (uint256 i = 0; i < admitted.length; ++i) {
            bytes memory stored = abi.encode(_producers.producer(admitted[i].name));
            require(keccak256(stored) == keccak256(abi.encode(admitted[i])), "P1");
        }
    }

    function invariant_P2_aNameAndABlockOtaBelongToOneProducer() external view {
        for (uint256 i = 0; i < _handler.RECORDS(); ++i) {
            IProducers.Producer memory one = _producers.producerOf(_handler.records(i));
            require(one.blockOta == (one.name == 0 ? address(0) : _handler.records(i)), "P2");
        }
        for (uint256 i = 0; i < _handler.NAMES(); ++i) {
            IProducers.Producer memory one = _producers.producer(_handler.nameOf(i));
            bool known = _handler.indexOf(_handler.nameOf(i)) < _handler.admitted().length;
            require(known == (one.name == _handler.nameOf(i)) && known == (one.blockOta != address(0)), "P2: name");
            require(!known || _producers.producerOf(one.blockOta).name == one.name, "P2: contract");
        }
    }

    function invariant_P4_onlyTheOwnerDecides() external {
        bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(7));
        bytes[3] memory calls = [
            abi.encodeCall(_producers.admit, ("new", address(_handler), address(0))),
            abi.encodeCall(_producers.suspend, (_handler.nameOf(0))),
            abi.encodeCall(_producers.restore, (_handler.nameOf(0)))
        ];
        for (uint256 i = 0; i < calls.length; ++i) _expect(address(7), address(_producers), calls[i], refusal);
    }

    function invariant_P5_pagesTogetherAreEveryProducer() external view {
        IProducers.Producer[] memory admitted = _handler.admitted();
        require(_producers.producerCount() == admitted.length, "P5: number");
        for (uint256 from = 0; from <= admitted.length; from += 2) {
            IProducers.Producer[] memory page = _producers.producers(from, 2);
            require(page.length == (admitted.length - from < 2 ? admitted.length - from : 2), "P5: page");
            for (uint256 i = 0; i < page.length; ++i) {
                require(keccak256(abi.encode(page[i])) == keccak256(abi.encode(admitted[from + i])), "P5: order");
            }
        }
    }
}

/// @title Single calls of Producers with random values
contract ProducersFuzz is ForgeTest {
    IProducers private _producers;

    function setUp() external {
        vm.warp(1_700_000_000);
        _producers = IProducers(_deploy("Producers", abi.encode(address(this))));
    }

    function testFuzz_P2_aNameIsOneToThirtyOneVisibleCharacters(bytes32 name, uint8 length, bool seldom) external {
        for (uint256 i = 0; i < 32 && !seldom; ++i) {
            uint8 character = i < length % 34 ? uint8(_pick(uint8(name[i]), 33, 126)) : 0;
            name = bytes32((uint256(name) & ~(0xFF << (248 - 8 * i))) | (uint256(character) << (248 - 8 * i)));
        }
        (uint256 used, bool good) = (0, true);
        for (; used < 32 && name[used] != 0; ++used) good = good && name[used] > 0x20 && name[used] < 0x7f;
        for (uint256 i = used; i < 32; ++i) good = good && name[i] == 0;
        bytes memory refusal;
        if (!good || used == 0 || used == 32) {
            refusal = abi.encodeWithSelector(IProducers.ProducerNameInvalid.selector, name);
        }
        bytes memory call = abi.encodeCall(_producers.admit, (name, address(this), address(0)));
        _expect(address(this), address(_producers), call, refusal);
    }

    function testFuzz_P3_anAccountWithoutCodeIsNotAContract(address account) external {
        vm.assume(account.code.length == 0 && account != address(0));
        bytes memory refusal = abi.encodeWithSelector(IProducers.ContractMissing.selector, account);
        bytes memory call = abi.encodeCall(_producers.admit, ("acme", account, address(0)));
        _expect(address(this), address(_producers), call, refusal);
        call = abi.encodeCall(_producers.admit, ("acme", address(this), account));
        _expect(address(this), address(_producers), call, refusal);
    }

    function testFuzz_P4_anyOtherAccountIsRefused(address account, bytes32 name) external {
        vm.assume(account != address(this) && account != address(0)); // 0 is the pending owner
        bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, account);
        address target = address(_producers);
        _expect(account, target, abi.encodeCall(_producers.admit, (name, target, account)), refusal);
        _expect(account, target, abi.encodeCall(_producers.suspend, (name)), refusal);
        _expect(account, target, abi.encodeCall(_producers.restore, (name)), refusal);
        _expect(account, target, abi.encodeCall(Ownable2Step.transferOwnership, (account)), refusal);
        _expect(account, target, abi.encodeCall(Ownable2Step.acceptOwnership, ()), refusal);
        refusal = abi.encodeWithSelector(IProducers.RenouncingRefused.selector);
        _expect(account, target, abi.encodeCall(Ownable.renounceOwnership, ()), refusal);
        _expect(address(this), target, abi.encodeCall(Ownable.renounceOwnership, ()), refusal);
    }

    function testFuzz_P5_pagesOfAnyKindAreAnswered(uint256 from, uint256 count) external {
        _producers.admit("acme", address(this), address(0));
        require(_producers.producers(from, count).length == (from == 0 && count != 0 ? 1 : 0), "P5");
    }

    function testFuzz_P6_itTakesNoEther(uint64 amount, bytes calldata data) external {
        vm.deal(address(this), amount);
        (bool done, ) = address(_producers).call{value: amount}("");
        require(!done, "P6: without data");
        bytes[2] memory calls = [data, abi.encodeCall(_producers.admit, ("acme", address(this), address(0)))];
        for (uint256 i = 0; i < 2 && amount != 0; ++i) {
            (done, ) = address(_producers).call{value: amount}(calls[i]);
            require(!done && address(_producers).balance == 0, "P6");
        }
    }
}
